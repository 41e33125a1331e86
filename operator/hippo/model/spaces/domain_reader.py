"""Validates a written space: every problem at once, each with its path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hippo.model.bounds import MAX_PIECES
from hippo.model.budget import check_costs, check_counts, cost_of, count_pieces
from hippo.model.errors import InvalidSpec, Problems
from hippo.model.sequences.numbers import canonical_json, describe, shorten, whole_problem
from hippo.model.sequences.schedule_reader import (
    DOMAIN_KEYS,
    Read,
    ScheduleReader,
    is_schedule_name,
)
from hippo.model.sequences.sequence import grows_beyond, name_problem, read_concrete, runs_of
from hippo.model.spaces.domains import MAX_REPRESENTATIVES, some, template_of
from hippo.model.translations import domains_hint, field_hint

_KNOWN = ", ".join(sorted(DOMAIN_KEYS))


def read_space(written: Any, steps: int | None, path: str) -> None:
    """Validates a space. Raises InvalidSpec.

    Schedules are expanded over ``steps`` steps; None skips that.
    """
    problems = Problems()
    if not isinstance(written, Mapping):
        problems.add(path, f"must map hyper-parameters to domains, not {describe(written)}")
    elif not written:
        problems.add(path, "is empty; name at least one hyper-parameter")
    else:
        check_counts(written, path, problems)
        problems.raise_if_any()
        reader = _SpaceReader(problems)
        sound = {
            name: domain for name, domain in written.items() if reader.is_sound(name, domain, path)
        }
        if steps is not None:
            _work_out(sound, steps, path, problems)
    problems.raise_if_any()


def _work_out(space: Mapping[str, Any], steps: int, path: str, problems: Problems) -> None:
    """Checks each choice, or its representatives, for problems that only expansion shows."""
    costs = {name: cost_of(domain, steps) for name, domain in space.items()}
    before = len(problems.found)
    check_costs(costs, path, problems)
    if len(problems.found) > before:
        return
    for name, domain in space.items():
        for index, choice in enumerate(domain.get("choices", ())):
            at = f"{path}.{name}.choices[{index}]"
            try:
                for point in some(template_of(choice).representatives(), MAX_REPRESENTATIVES):
                    _check(point, steps, at)
            except InvalidSpec as error:
                for _, message in error.errors:
                    problems.add(at, message)


def _check(written: Any, steps: int, path: str) -> None:
    """Raises InvalidSpec as expanding would, but expands only if counting does not suffice."""
    if not isinstance(written, Mapping):
        return
    if count_pieces(written, steps, formula=1, short=1) > MAX_PIECES:
        runs_of(written, steps, path=path)
    elif read_concrete(written, path).overflows(steps):
        raise InvalidSpec.at(path, grows_beyond(steps))


class _SpaceReader:
    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._schedules = ScheduleReader(self._nested)

    def is_sound(self, name: Any, domain: Any, path: str) -> bool:
        """Adds the problems of a hyper-parameter; returns whether there are none."""
        before = len(self._problems.found)
        problem = name_problem(name)
        if problem is not None:
            self._problems.add(path, problem)
        else:
            self._hyperparameter(name, domain, f"{path}.{name}")
        return len(self._problems.found) == before

    def _hyperparameter(self, name: str, domain: Any, path: str) -> None:
        problems = self._problems
        if not isinstance(domain, Mapping) or not DOMAIN_KEYS & domain.keys():
            problems.add(path, _no_domain(domain))
            return
        static = domain.get("static", False)
        if not isinstance(static, bool):
            problems.add(f"{path}.static", f"must be true or false, not {describe(static)}")
        bare = {key: item for key, item in domain.items() if key != "static"}

        def read_static(written: Any, path: str, problems: Problems) -> Any:
            if isinstance(written, Mapping):
                problems.add(path, f"is no plain value, but {name} is static")
                return None
            return self._schedules.plain(written, path, problems)

        self._domain(bare, path, read_static if static is True else self._schedules.node)

    def _nested(self, written: Any, path: str, problems: Problems, read: Read) -> None:
        self._domain(written, path, read)

    def _domain(self, written: Mapping[Any, Any], path: str, read: Read) -> None:
        if len(written) != 1:
            extra = ", ".join(str(key) for key in written if key not in DOMAIN_KEYS)
            if extra:
                hint = _beside_hint(written)
                self._problems.add(path, f"unknown field beside a domain: {shorten(extra)}{hint}")
            else:
                self._problems.add(path, f"must hold one domain, not {', '.join(written)}")
            return
        ((kind, body),) = written.items()
        path = f"{path}.{kind}"
        if kind == "choices":
            self._choices(body, path, read)
        elif kind == "uniform":
            self._range(body, path, read, whole=False)
        else:
            self._range(body, path, read, whole=True)

    def _choices(self, body: Any, path: str, read: Read) -> None:
        problems = self._problems
        if not isinstance(body, list | tuple):
            problems.add(path, f"must be a list, not {describe(body)}")
            return
        if not body:
            problems.add(path, "is empty")
        seen: dict[str, int] = {}
        for index, option in enumerate(body):
            before = len(problems.found)
            read(option, f"{path}[{index}]", problems)
            if len(problems.found) > before:
                continue
            first = seen.setdefault(canonical_json(option), index)
            if first != index:
                problems.add(f"{path}[{index}]", f"is the same as choices[{first}]")

    def _range(self, body: Any, path: str, read: Read, *, whole: bool) -> None:
        problems = self._problems
        known = ("low", "high", "step", "log") if whole else ("low", "high", "log")
        if not isinstance(body, Mapping):
            hint = _bounds_hint(body)
            problems.add(path, f"must be a mapping with low and high, not {describe(body)}{hint}")
            return
        before = len(problems.found)
        for name in body:
            if name not in known:
                hint = _step_hint(name, whole=whole) or field_hint(name, known)
                problems.add(f"{path}.{name}", f"unknown field; known: {', '.join(known)}{hint}")
        for name in ("low", "high"):
            if name not in body:
                problems.add(f"{path}.{name}", "is missing")
            elif isinstance(body[name], Mapping):
                problems.add(f"{path}.{name}", "must be a number, not a mapping")
            elif whole:
                problem = whole_problem(body[name], None)
                if problem is None:
                    read(body[name], f"{path}.{name}", problems)
                else:
                    problems.add(f"{path}.{name}", problem)
            else:
                self._schedules.number(body[name], f"{path}.{name}", problems)
        log = body.get("log", False)
        if not isinstance(log, bool):
            problems.add(f"{path}.log", f"must be true or false, not {describe(log)}")
        if "step" in body:
            problem = whole_problem(body["step"], 1)
            if problem is not None:
                problems.add(f"{path}.step", problem)
        if len(problems.found) > before:
            return
        if not whole and read not in (self._schedules.number, self._schedules.node):
            problems.add(path, "offers fractions where only integers may stand; use int")
        elif body["low"] >= body["high"]:
            problems.add(path, f"low ({body['low']}) must be less than high ({body['high']})")
        elif log and body["low"] <= 0:
            problems.add(f"{path}.low", "must be greater than 0, because log is true")


def _no_domain(domain: Any) -> str:
    if isinstance(domain, Mapping):
        kinds = [key for key in domain if key != "static"]
        if len(kinds) == 1 and is_schedule_name(kinds[0]):
            return f"is a schedule, not a domain; write {{choices: [{{{kinds[0]}: ...}}]}}"
        if not kinds:
            return f"has no domain; known: {_KNOWN}"
        names = shorten(", ".join(repr(kind) for kind in kinds))
        hint = domains_hint({key: domain[key] for key in kinds}, DOMAIN_KEYS)
        return f"unknown domain {names}; known: {_KNOWN}{hint}"
    if isinstance(domain, list | tuple):
        return "is a list, not a domain; write {choices: [...]}"
    if domain is None:
        return f"must be a domain ({_KNOWN}), not null"
    return f"is a plain value, not a domain; write {{choices: [{shorten(str(domain))}]}}"


def _beside_hint(written: Mapping[Any, Any]) -> str:
    """Returns a hint that bounds belong inside the domain that they bound."""
    kind = next(key for key in written if key in DOMAIN_KEYS)
    inner = {"low", "high", "log", "step"} & written.keys()
    return f"; put {', '.join(sorted(inner))} below {kind}" if inner and kind != "choices" else ""


def _bounds_hint(body: Any) -> str:
    """Returns a hint for ``[0.1, 1]``, the way other systems write bounds."""
    if isinstance(body, list | tuple) and len(body) == 2:
        return f"; write {{low: {shorten(str(body[0]))}, high: {shorten(str(body[1]))}}}"
    return ""


def _step_hint(name: object, *, whole: bool) -> str:
    return "; for steps use int, or choices" if name in ("step", "q") and not whole else ""
