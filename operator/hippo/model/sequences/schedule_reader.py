"""Reads values and schedules as users write them: every problem at once, each with its path.

With a ``DomainReader``, a domain may replace a number, a list or a value. A schedule that contains
a domain is checked as thoroughly, but yields no node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from hippo.model.bounds import MAX_DEPTH, MAX_POWER
from hippo.model.errors import Problems
from hippo.model.sequences.functions import Constant
from hippo.model.sequences.numbers import (
    Tagged,
    describe,
    exact,
    number_problem,
    shorten,
    whole_problem,
)
from hippo.model.sequences.schedules import (
    Exponential,
    Multistep,
    Node,
    Piecewise,
    Plain,
    Ramp,
    Step,
    Wave,
)
from hippo.model.translations import domain_hint, field_hint, schedule_hint

DOMAIN_KEYS = frozenset({"choices", "uniform", "int"})

Read = Callable[[Any, str, Problems], Any]
"""Reads one field; returns None if it has a problem or contains a domain."""

DomainReader = Callable[[Any, str, Problems, Read], None]
"""Checks a domain within a schedule; its values must be valid for ``Read``."""


class ScheduleReader:
    """Reads values and schedules. ``domains`` checks nested domains; None forbids them."""

    def __init__(self, domains: DomainReader | None = None) -> None:
        self._domains = domains
        self._depth = 0
        number, count = self.number, self.count
        self._fields: dict[str, dict[str, Read]] = {
            "step": {"initial": number, "gamma": number, "every": count},
            "multistep": {"initial": number, "gamma": number, "milestones": self.milestones},
            "exponential": {"initial": number, "gamma": number},
            "linear": {"initial": number, "final": number, "steps": count},
            "cosine": {"initial": number, "final": number, "steps": count},
            "polynomial": {
                "initial": number,
                "final": number,
                "steps": count,
                "power": self.power,
            },
            "cyclic": {"low": number, "high": number, "up": count, "down": count},
            "warmup": {"from": number, "steps": count, "to": number, "then": self.node},
        }

    def node(self, written: Any, path: str, problems: Problems) -> Node | None:
        """Reads a plain value or a schedule."""
        if isinstance(written, Mapping):
            if self._is_domain(written, path, problems, self.node):
                return None
            if self._depth == MAX_DEPTH:
                problems.add(path, f"is nested more than {MAX_DEPTH} levels deep")
                return None
            self._depth += 1
            try:
                return self._schedule(written, path, problems)
            finally:
                self._depth -= 1
        return self.plain(written, path, problems)

    def plain(self, written: Any, path: str, problems: Problems) -> Node | None:
        """Reads a value without arithmetic: a number, text, true or false, or a list."""
        if isinstance(written, int | float) and not isinstance(written, bool):
            problem = number_problem(written)
            if problem is None:
                return Plain(Constant(float(written) + 0.0))
            problems.add(path, problem)
            return None
        before = len(problems.found)
        _check_constant(written, path, problems, 0)
        return Plain(Constant(Tagged(written))) if len(problems.found) == before else None

    def number(self, written: Any, path: str, problems: Problems) -> Fraction | None:
        if self._is_domain(written, path, problems, self.number):
            return None
        problem = number_problem(written)
        if problem is None:
            return exact(written)
        problems.add(path, problem + _domain_hint(written))
        return None

    def count(self, written: Any, path: str, problems: Problems) -> int | None:
        """Reads a number of steps: an integer of at least 1."""
        return self._whole(written, path, problems, 1, None, self.count)

    def power(self, written: Any, path: str, problems: Problems) -> int | None:
        return self._whole(written, path, problems, 1, MAX_POWER, self.power)

    def milestones(self, written: Any, path: str, problems: Problems) -> tuple[int, ...] | None:
        if self._is_domain(written, path, problems, self.milestones):
            return None
        if not isinstance(written, list | tuple):
            problems.add(path, f"must be a list of steps, not {describe(written)}")
            return None
        steps: list[int | None] = []
        for index, item in enumerate(written):
            at = f"{path}[{index}]"
            if isinstance(item, Mapping):
                steps.append(None)
                problems.add(
                    at,
                    "must be an integer; for several lists to choose from, write"
                    f" {path.rpartition('.')[2]}: {{choices: [[10], [20]]}}",
                )
            else:
                steps.append(self._whole(item, at, problems, 0, None, None))
        return _ascending(steps, [f"{path}[{index}]" for index in range(len(steps))], problems)

    def _whole(
        self,
        written: Any,
        path: str,
        problems: Problems,
        least: int,
        most: int | None,
        read: Read | None,
    ) -> int | None:
        if read is not None and self._is_domain(written, path, problems, read):
            return None
        problem = whole_problem(written, least, most)
        if problem is None:
            return int(written)
        problems.add(path, problem + _domain_hint(written))
        return None

    def _is_domain(self, written: Any, path: str, problems: Problems, read: Read) -> bool:
        if not isinstance(written, Mapping) or not DOMAIN_KEYS & written.keys():
            return False
        if self._domains is None:
            problems.add(path, "is a domain; a sequence holds values and schedules only")
        else:
            self._domains(written, path, problems, read)
        return True

    def _schedule(self, written: Mapping[Any, Any], path: str, problems: Problems) -> Node | None:
        if len(written) != 1:
            problems.add(path, "must hold exactly one schedule, " + _found(written))
            return None
        ((name, body),) = written.items()
        if name == "piecewise":
            return self._piecewise(body, f"{path}.piecewise", problems)
        fields = self._fields.get(name) if isinstance(name, str) else None
        if fields is None:
            known = ", ".join(sorted([*self._fields, "piecewise"]))
            hint = schedule_hint(name, {*self._fields, "piecewise"}, DOMAIN_KEYS)
            problems.add(path, f"unknown schedule {shorten(repr(name))}; known: {known}{hint}")
            return None
        path = f"{path}.{name}"
        read = _read_fields(body, path, problems, fields)
        if read is None or any(value is None for value in read.values()):
            return None
        return _BUILD[name](**read)

    def _piecewise(self, written: Any, path: str, problems: Problems) -> Node | None:
        if not isinstance(written, list | tuple):
            problems.add(path, f"must be a list of [step, value], not {describe(written)}")
            return None
        if not written:
            problems.add(path, "is empty; the first entry begins at step 0")
            return None
        starts: list[int | None] = []
        nodes: list[Node | None] = []
        for index, entry in enumerate(written):
            at = f"{path}[{index}]"
            if not isinstance(entry, list | tuple) or len(entry) != 2:
                problems.add(at, "must be [step, value or schedule]")
                starts.append(None)
                nodes.append(None)
                continue
            starts.append(self._whole(entry[0], f"{at}[0]", problems, 0, None, None))
            nodes.append(self.node(entry[1], f"{at}[1]", problems))
        if starts[0]:
            problems.add(
                f"{path}[0][0]", f"must be 0: the first entry begins there, not at {starts[0]}"
            )
        checked = _ascending(starts, [f"{path}[{i}][0]" for i in range(len(starts))], problems)
        sound = [node for node in nodes if node is not None]
        if checked is None or starts[0] != 0 or len(sound) < len(nodes):
            return None
        return Piecewise(checked, tuple(sound))


_BUILD: dict[str, Callable[..., Node]] = {
    "step": Step,
    "multistep": Multistep,
    "exponential": Exponential,
    "linear": Ramp,
    "cosine": lambda initial, final, steps: Ramp(initial, final, steps, power=None),
    "polynomial": Ramp,
    "cyclic": Wave,
    "warmup": lambda steps, to, then, **rest: Ramp(rest["from"], to, steps, then=then),
}


def is_schedule_name(name: object) -> bool:
    return name == "piecewise" or name in _BUILD


def _read_fields(
    body: Any, path: str, problems: Problems, fields: Mapping[str, Read]
) -> dict[str, Any] | None:
    """Reads a mapping with exactly these fields; returns None if some are missing or unknown."""
    if not isinstance(body, Mapping):
        problems.add(path, f"must be a mapping with {', '.join(fields)}, not {describe(body)}")
        return None
    for name in body:
        if name not in fields:
            hint = field_hint(name, tuple(fields))
            problems.add(f"{path}.{name}", f"unknown field; known: {', '.join(fields)}{hint}")
    missing = [name for name in fields if name not in body]
    for name in missing:
        problems.add(f"{path}.{name}", "is missing")
    read = {
        name: reader(body[name], f"{path}.{name}", problems)
        for name, reader in fields.items()
        if name in body
    }
    return None if missing or len(body) > len(fields) else read


def _ascending(
    steps: list[int | None], paths: list[str], problems: Problems
) -> tuple[int, ...] | None:
    sound = [step for step in steps if step is not None]
    if len(sound) < len(steps):
        return None
    for index in range(1, len(sound)):
        if sound[index] <= sound[index - 1]:
            problems.add(
                paths[index],
                f"must be greater than the one before it ({sound[index - 1]}), not {sound[index]}",
            )
            return None
    return tuple(sound)


def _check_constant(written: Any, path: str, problems: Problems, depth: int) -> None:
    if isinstance(written, str | bool):
        return
    if isinstance(written, int | float):
        problem = number_problem(written)
        if problem is not None:
            problems.add(path, problem)
    elif isinstance(written, list | tuple) and depth < MAX_DEPTH:
        for index, item in enumerate(written):
            _check_constant(item, f"{path}[{index}]", problems, depth + 1)
    elif isinstance(written, list | tuple):
        problems.add(path, f"is nested more than {MAX_DEPTH} levels deep")
    else:
        problems.add(
            path,
            f"must be a number, text, true or false, or a list of these, not {describe(written)}",
        )


def _domain_hint(written: Any) -> str:
    """Returns a hint if another system's name for a domain stands in place of a number."""
    is_named = isinstance(written, Mapping) and len(written) == 1
    return domain_hint(next(iter(written)), DOMAIN_KEYS) if is_named else ""


def _found(written: Mapping[Any, Any]) -> str:
    if not written:
        return "not none"
    return "not " + shorten(", ".join(str(key) for key in written))
