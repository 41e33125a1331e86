"""Studies as nobody would write them: refused in lines that say where, and in bounded time."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from hippo.kube.resources import STUDY
from hippo.model import InvalidSpec, load_studies, parse_study
from hippo.model.bounds import MAX_DOCUMENT_BYTES, MAX_NODES, MAX_PROBLEMS
from hippo.model.composing import BoundedComposer, Refused
from hippo.model.measuring import check_size
from hippo.model.trial import parse_trial_spec
from hippo.store.layout import Layout
from tests.model_checking.world import World
from tests.unit.hostile.values import anything, deep, spoilt
from tests.unit.kube.memory import NAMESPACE, study_document

SECONDS = 60.0
"""Of the processor, not of a busy machine's clock: what grows without bound takes far more."""
WHOLE = study_document(
    "s",
    steps=12,
    space={
        "lr": {
            "choices": [
                0.1,
                {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [2, 4]}},
                {"warmup": {"from": 0.0, "steps": 2, "to": 0.1, "then": {"cosine": {
                    "initial": 0.1, "final": 0.0, "steps": 5}}}},
                {"piecewise": [[0, 0.1], [4, {"step": {"initial": 1, "gamma": 0.5, "every": 2}}]]},
            ]
        },
        "wd": {"uniform": {"low": 1e-5, "high": 1e-3, "log": True}},
    },
    algorithm={"name": "asha", "eta": 3, "minSteps": 2},
    maxTrials=3,
    budget={"workerHours": 1, "wallTime": "1h"},
    checkpoints={"retain": "best", "every": "10m", "ttl": "7d"},
    trainer={"entrypoint": "t:T", "image": "i:1", "config": {"a": [1]}, "podTemplate": {}},
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=300)
@given(st.one_of(spoilt(WHOLE), anything))
def test_a_spoilt_study_is_refused_in_lines_or_is_one(document: Any) -> None:
    began = time.process_time()
    try:
        parse_study(document)
        told: list[tuple[str, str]] = []
    except InvalidSpec as error:
        told = list(error.errors)
    for path, message in told:
        assert message
        assert "\n" not in f"{path}{message}"
        assert len(message) < 1000
    assert time.process_time() - began < SECONDS


@pytest.mark.slow
@settings(max_examples=150)
@given(spoilt({"study": "s", "hyperparameters": {"lr": 0.1}, "steps": 2, "index": 0}))
def test_a_spoilt_trial_is_refused_or_is_one(spec: Any) -> None:
    with contextlib.suppress(InvalidSpec):
        parse_trial_spec(spec)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(spoilt(WHOLE), min_size=1, max_size=3))
def test_the_operator_takes_in_whatever_an_api_server_might_hold(documents: list[Any]) -> None:
    world = World()
    try:
        world.apply("sound", steps=4, space={"lr": {"choices": [0.1]}})
        for number, document in enumerate(documents):
            if isinstance(document, dict) and "spec" in document:
                found = {**study_document(f"s{number}"), "spec": document["spec"]}
                world._runner.do(world.server.create(STUDY, NAMESPACE, found))
        world.start_operator(0, "hippo")
        world.go_on(20, actions=3, seconds=2.0)
        reasons = {
            condition["reason"]
            for study in world.studies()
            for condition in (study.get("status") or {}).get("conditions", [])
        }
        assert "Defect" not in reasons
        sound = world.server.find(STUDY, "sound")
        assert sound["status"]["phase"] == "Succeeded"
    finally:
        world.close()


BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
FILES = {
    "bomb": BOMB,
    "python": "!!python/object/apply:os.system ['touch it-ran']",
    "deep": "[" * 5000,
    "braces": "{a: " * 2000,
    "nul": "a: \0",
    "binary": "\x80\x81",
    "twice": "apiVersion: a\napiVersion: b\n",
    "twice, at length": f"a: {'x' * 10_000}\na: {'y' * 10_000}\n",
    "merged": "".join(
        f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9 * (n > 0))}], k{n}: 1}}\n"
        for n in range(9)
    ),
    "one text many times": f"a: &a {'x' * 100_000}\nb: [{'*a, ' * 100}]\n",
    "within itself": "a: &a {b: *a}\n",
    "key of mappings": "? {a: b}\n: 1\n",
    "key of lists": "? [a, {b: c}]\n: 1\n",
    "key by alias": "a: &a [b]\n? *a\n: 1\n",
    "key of a set": "!!set {? [a]}\n",
    "key in a merge": "a: {<<: {? [b]\n: 1}}\n",
    "flow": "a: " + "{a: " * 200,
    "block": "".join(f"{'  ' * n}a:\n" for n in range(200)),
    "many": "[" + "1," * 200_001 + "]",
    "breaks": "a: b\n" + "\x85" * 100_000,
    "digits": "a: " + "9" * 100_000,
    "hexadecimal": "metadata: {name: 0x" + "f" * 100_000 + "}",
    "directive": "%YAML 1.1\n---\na: yes\n",
    "unknown directive": "%YAML 9.9\n---\na: 1\n",
    "fields": "".join(f"field{n}: 1\n" for n in range(5_000)),
    "too large": "a: " + "x" * MAX_DOCUMENT_BYTES,
    "merge": "<<: [*x]\n",
    "a mapping as text": "a: !!str {b: 1}\n",
    "a list as text": "a: !!str [b]\n",
    "list": "- 1\n- 2\n",
    "empty": "",
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "many" else n for n in FILES]
)
def test_hostile_yaml_is_refused_in_a_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(FILES[name].encode("latin-1" if name == "binary" else "utf-8"))
    began = time.process_time()
    with pytest.raises(InvalidSpec) as error:
        load_studies([path])
    assert len(error.value.errors) <= MAX_PROBLEMS
    for at, message in error.value.errors:
        assert "\n" not in at + message
        assert len(at) < 400
        assert len(message) < 1000
    assert time.process_time() - began < SECONDS
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: 1\n? [a, {b: c}]\n: 1\n", "2:3", "a key must be text, not a list"),
        ("{a: 1, {b: c}: 2}\n", "1:8", "a key must be text, not a mapping"),
        ("a: &a [b]\nb: {*a : 1}\n", "2:5", "a key must be text, which *a is not"),
        ("a: &a\n  b: [*a]\n", "2:7", "*a stands within what it names"),
        (
            "a: &a [" + "1, " * 999 + "]\nb: [" + "*a, " * 300 + "]\n",
            "2:797",
            "the file holds more than 200,000 values and keys up to here, its aliases written out:"
            " make it smaller",
        ),
        ("[" * 129 + "]" * 129, "1:129", "is nested more than 128 levels deep"),
    ],
)
def test_what_no_study_needs_is_refused_by_line_and_column(
    text: str, place: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(InvalidSpec) as error:
        load_studies([path])
    assert str(error.value) == f"{path}:{place}: {message}"


def _levels(count: int) -> str:
    """Each names the one before nine times."""
    return "a0: &a0 [x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, count)
    )


@pytest.mark.parametrize("levels", [3, 7, 12, 200])
def test_aliases_are_counted_without_being_written_out(levels: int) -> None:
    """Each scalar, list and alias is composed once, whatever it stands for."""
    text = _levels(levels)
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _Counting
    composer: _Counting = yaml.get_constructor_parser(text)[0].composer
    composed = composer.get_single_node
    if levels <= 5:
        composed()
        assert composer.nodes == 1 + levels + sum(2 * 9**n + _inner(n) for n in range(levels))
    else:
        with pytest.raises(Refused):
            composed()
    assert composer.calls <= 2 * len(text)


def _inner(level: int) -> int:
    """Lists that a level stands for."""
    return sum(9**n for n in range(level + 1))


class _Counting(BoundedComposer):
    calls = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.calls += 1
        return super().compose_node(parent, index)


class _Visited(list[Any]):
    """A list that counts how many of its items were looked at."""

    visits = 0

    def __iter__(self) -> Iterator[Any]:
        for item in super().__iter__():
            _Visited.visits += 1
            yield item


def _shared(levels: int, width: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = _Visited([value] * width)
    return value


@pytest.mark.slow
@given(st.integers(1, 100), st.integers(1, 40))
def test_what_somebody_else_has_parsed_is_measured_in_bounded_visits(
    levels: int, width: int
) -> None:
    _Visited.visits = 0
    with contextlib.suppress(InvalidSpec):
        check_size({"a": _shared(levels, width)})
    assert _Visited.visits <= MAX_NODES + width


def test_a_parsed_document_is_refused_for_its_size() -> None:
    for value, told in (
        (_shared(9, 9), "200,000 values and keys"),
        (["x" * 100_000] * 100, "4,194,304 characters"),
        (deep(200), "128 levels"),
    ):
        document = study_document("s", trainer={"entrypoint": "t:T", "config": {"a": value}})
        with pytest.raises(InvalidSpec) as error:
            parse_study(document)
        assert told in str(error.value)
    with pytest.raises(InvalidSpec) as error:
        parse_trial_spec({"study": "s", "hyperparameters": {"a": _shared(9, 9)}, "steps": 1})
    assert "values and keys" in str(error.value)


TOKENS = st.sampled_from(
    ["a", "b", ": ", "- ", "? ", "[", "]", "{", "}", ", ", "\n", "  ", "&a ", "*a", "<<", "!!set ",
     "!!omap ", "!!pairs ", "!!binary ", "!!timestamp ", "!!int ", "!!map ", "!!seq ", "!x ", "'",
     '"', "|", ">", "#", "%YAML 1.1\n", "%TAG ! x\n", "---\n", "...\n", "2020-01-01", "0x", "1",
     "1e5", ".nan", "~", "null", "true", "\t", "\r", "\x85", "\u2028", "\\", "@", "=", "é"]
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=400)
@given(st.lists(TOKENS, max_size=25).map("".join))
def test_any_text_is_studies_or_is_refused(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "s.yaml")
        path.write_bytes(text.encode())
        told: list[str] = []
        try:
            load_studies([path])
        except InvalidSpec as error:
            told = [at + message for at, message in error.errors]
    assert not any("\n" in line for line in told)


def test_deep_values_are_refused_or_taken_as_they_are() -> None:
    for depth in (10, 100, 900, 5000):
        document = study_document("s", space={"lr": {"choices": [deep(depth)]}})
        with contextlib.suppress(InvalidSpec):
            parse_study(document)


@given(st.text(), st.text())
def test_no_name_leads_out_of_a_plan(plan: str, part: str) -> None:
    try:
        layout = Layout(plan)
        names = [layout.manifest(part), layout.report(part, 3), layout.control(part)]
        names += [layout.study(part), layout.decision(part, 1), layout.data_of(part)]
    except ValueError:
        return
    for name in names:
        assert name.startswith(f"{plan}/")
        assert ".." not in name.split("/")
        assert "\\" not in name
