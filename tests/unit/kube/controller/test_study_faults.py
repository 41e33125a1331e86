"""A study that fails as nobody foresaw is left out of its plan; the others go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from hippo.kube import names
from hippo.kube.client import Refused
from hippo.kube.controller import admission
from hippo.kube.controller.orphan_trials import OrphanTrials
from hippo.kube.reconciler import study_status
from hippo.kube.reconciler.user_trials import UserTrials
from hippo.kube.resources import SEARCH_PLAN, STUDY, TRIAL, Document
from hippo.lifecycles import InvariantViolated, StudyFault, blame
from hippo.model import Sequence, Space
from hippo.store.mailbox import Mailbox
from hippo.tune.grid import GridTuner
from tests.model_checking.world import World
from tests.unit.kube.memory import NAMESPACE, copied, study_document

pytestmark = pytest.mark.usefixtures("quiet")

ODD = 0.7
"""The learning rate of the study that fails, by which its hyper-parameters are known."""
ERRORS = [
    ValueError("two\nlines"),
    MemoryError(),
    RecursionError("deep"),
    KeyError("none"),
    TypeError("odd"),
    ZeroDivisionError(),
]


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def turn(world: World, count: int = 12) -> None:
    world.go_on(count, actions=4, seconds=5.0)


def apply_both(world: World, **hostile: Any) -> None:
    world.apply("sound", steps=4, space={"lr": {"choices": [0.1, 0.2]}})
    space = {"lr": {"choices": [ODD, 0.1]}}
    world.apply("hostile", **{"steps": 4, "space": space, **hostile})


def status(world: World, name: str) -> Document:
    found: Document = world.server.find(STUDY, name)["status"]
    return found


def condition(world: World, name: str, type_: str) -> Document:
    (found,) = [c for c in status(world, name)["conditions"] if c["type"] == type_]
    return dict(found)


def check_only_hostile_stands(world: World, reason: str) -> None:
    assert status(world, "sound")["phase"] == "Succeeded", status(world, "sound")["message"]
    found = status(world, "hostile")
    assert found["phase"] == "Suspended"
    assert found["message"].startswith(f"it cannot go on: {reason}"), found["message"]
    assert "\n" not in found["message"]
    assert condition(world, "hostile", "Progressing")["reason"] == names.REASON_FAULT
    assert condition(world, "hostile", "Suspended")["status"] == "True"
    world.check()


def edit(world: World, name: str, **spec: Any) -> None:
    found = world.server.find(STUDY, name)
    found["spec"] |= spec
    found["metadata"]["generation"] += 1
    world.server.touch(found)


def deciding(error: Exception) -> Any:
    decide = GridTuner.decide

    def fail(tuner: GridTuner, idle: int) -> Any:
        if tuner._space.pick(0)["lr"] == ODD:
            raise error
        return decide(tuner, idle)

    return mock.patch.object(GridTuner, "decide", fail)


def observing(error: Exception) -> Any:
    observe = GridTuner.tell

    def fail(tuner: GridTuner, result: Any) -> None:
        if len(tuner._targets) and tuner._point(0)["lr"] == ODD:
            raise error
        observe(tuner, result)

    return mock.patch.object(GridTuner, "tell", fail)


def reading(error: Exception) -> Any:
    read = Sequence.of

    def fail(hyperparameters: Any, steps: int, **options: Any) -> Sequence:
        if hyperparameters.get("lr") == ODD:
            raise error
        return read(hyperparameters, steps, **options)

    return mock.patch.object(Sequence, "of", fail)


def forking(error: Exception) -> Any:
    fork = Space.fork_steps

    def fail(space: Space, sequence: Sequence) -> Any:
        if space.pick(0)["lr"] == ODD:
            raise error
        return fork(space, sequence)

    return mock.patch.object(Space, "fork_steps", fail)


def reporting_on(error: Exception) -> Any:
    build = study_status.fill_study_status

    def fail(before: Any, engine: Any, run: Any) -> Any:
        if run.name == "hostile":
            raise error
        return build(before, engine, run)

    return mock.patch.object(study_status, "fill_study_status", fail)


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("where", [deciding, observing, reading, forking, reporting_on])
def test_the_others_succeed(
    world: World, where: Callable[[Exception], Any], error: Exception
) -> None:
    apply_both(world)
    with where(error):
        world.start_operator(0, "hippo")
        turn(world)
        check_only_hostile_stands(world, type(error).__name__)
    world.kill_operator(0)  # the next one finds the store as it has to be, and no fault
    world.start_operator(0, "hippo")
    turn(world)
    assert status(world, "hostile")["phase"] == "Succeeded", status(world, "hostile")["message"]
    world.check_end()


@pytest.mark.parametrize("way", ["edited", "asked to try again"])
def test_it_goes_on_once_it_is_another(world: World, way: str) -> None:
    apply_both(world)
    world.start_operator(0, "hippo")
    with deciding(ValueError("no")):
        turn(world)
    check_only_hostile_stands(world, "ValueError: no")
    turn(world)
    check_only_hostile_stands(world, "ValueError: no")  # not tried again by itself
    if way == "edited":
        edit(world, "hostile", priority=1)
    else:
        world.annotate("hostile", "once")
    turn(world)
    assert status(world, "hostile")["phase"] == "Succeeded", status(world, "hostile")["message"]
    assert condition(world, "hostile", "Suspended")["status"] == "False"
    world.check_end()


def test_one_that_is_deleted_meanwhile_is_marked_so_in_the_store(world: World) -> None:
    apply_both(world)
    world.start_operator(0, "hippo")
    with observing(ValueError("no")):
        turn(world)
        check_only_hostile_stands(world, "ValueError: no")
        world.apply("late", steps=6, space={"lr": {"choices": [0.3]}})
        turn(world, 2)
        world.delete_study("hostile")
        turn(world)
    name = next(n for n in world.blobs if n.endswith("/hostile/study.json"))
    assert json.loads(world.blobs[name])["document"]["deleted"] is not None
    assert status(world, "late")["phase"] == "Succeeded"


def alter_study(world: World, change: Callable[[Document], None]) -> None:
    name = next(n for n in world.blobs if n.endswith("/hostile/study.json"))
    record = json.loads(world.blobs[name])
    change(record["document"]["study"]["spec"])
    world.blobs[name] = json.dumps(record).encode()


def alter_decisions(world: World, change: Callable[[Document], None]) -> None:
    for name in [n for n in world.blobs if "/hostile/decisions/" in n]:
        record = json.loads(world.blobs[name])
        change(record)
        world.blobs[name] = json.dumps(record).encode()
        world._decisions.pop(name, None)
    for name in world.server.names(TRIAL):  # or they are taken for what is missing
        if name.startswith("hostile-"):
            world.server.remove(TRIAL, name)


RECORDS: dict[str, tuple[Callable[[World], None], str]] = {
    "another space": (
        lambda w: alter_study(w, lambda s: s["space"].update(lr={"choices": [5, 6]})),
        "what the store holds is another study",
    ),
    "no study": (
        lambda w: alter_study(w, lambda s: s.update(steps=0)),
        "study hostile in the store cannot be read",
    ),
    "a trial that none follows": (
        lambda w: alter_decisions(w, lambda d: d.update(trial=7)),
        "decision 0 of study hostile",
    ),
    "steps that are no rung": (
        lambda w: alter_decisions(w, lambda d: d.update(steps=3)),
        "its decisions cannot be followed",
    ),
    "hyper-parameters that are none": (
        lambda w: alter_decisions(w, lambda d: d.update(hyperparameters={"lr": {"x": 1}})),
        "its decisions cannot be followed",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", RECORDS)
def test_what_the_store_holds_of_one_study_stops_no_other(world: World, kind: str) -> None:
    change, reason = RECORDS[kind]
    apply_both(world)
    world.start_operator(0, "hippo")
    turn(world, 2)
    world.kill_operator(0)
    change(world)
    world.start_operator(0, "hippo")
    turn(world)
    check_only_hostile_stands(world, reason)


def _nested(levels: int) -> Any:
    found: Any = 1
    for _ in range(levels):
        found = [found]
    return found


STEP = {"initial": 0.1, "every": 10}
HOSTILE_STUDIES: dict[str, dict[str, Any]] = {
    "millions of pieces": {
        "steps": 100_000,
        "space": {
            "lr": {"choices": [{"step": {**STEP, "gamma": 0.9999 - i * 1e-8}} for i in range(150)]}
        },
    },
    "nested lists": {"space": {"lr": {"choices": [_nested(300)]}}},
    "nested mappings": {
        "trainer": {"entrypoint": "a:b", "image": "c", "config": {"x": _nested(200)}}
    },
    "a long name": {"space": {"x" * 100_000: {"choices": [1]}}},
    "a name of odd signs": {"space": {"\x1b[31m\u202e\n": {"choices": [1]}}},
    "a metric of many signs": {"objective": {"metric": "m" * 100_000, "goal": "maximize"}},
    "thousands of problems": {"space": {f"x{i}": {"choices": []} for i in range(3_000)}},
    "no spec at all": {"steps": None, "space": None, "algorithm": None},
    "a number beyond all": {"steps": 10**300},
    "schedules within schedules": {
        "space": {"lr": {"choices": [{"piecewise": [[i, {"step": {}}] for i in range(2_000)]}]}}
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOSTILE_STUDIES)
def test_a_study_that_cannot_be_taken_stops_nobody(world: World, kind: str) -> None:
    world.apply("sound", steps=4, space={"lr": {"choices": [0.1]}})
    body = study_document("hostile", **{"steps": 4, **HOSTILE_STUDIES[kind]})
    world._runner.do(world.server.create(STUDY, NAMESPACE, body))
    world.start_operator(0, "hippo")
    turn(world)
    assert status(world, "sound")["phase"] == "Succeeded"
    found = world.server.find(STUDY, "hostile").get("status") or {}
    assert found.get("phase") in ("Rejected", "Pending", "Running", "Succeeded", "Failed")
    if kind not in ("millions of pieces", "a metric of many signs", "a long name"):
        assert found["phase"] == "Rejected"
    assert len(json.dumps(found)) < 300_000


HOSTILE_TRIALS: dict[str, Any] = {
    "a long name of a number": {"exponential": {"initial": 1e300, "gamma": 123456789012345.5}},
    "small, and a long name": {"exponential": {"initial": 1e-300, "gamma": 123456789012.5}},
    "too many pieces": {"step": {"initial": 0.1, "gamma": 0.99999, "every": 1}},
    "nested": {"piecewise": [[0, {"piecewise": [[0, {"piecewise": [[0, {"x": 1}]]}]]}]]},
    "no number": {"cosine": {"initial": "x", "final": 1, "steps": 3}},
    "a list": [[[[[1]]]]],
    "null": None,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOSTILE_TRIALS)
def test_a_trial_that_cannot_be_taken_stops_nobody(world: World, kind: str) -> None:
    external = {"name": "external"}
    world.apply("ext", steps=4, space={"lr": {"choices": [0.1]}}, algorithm=external)
    world.start_operator(0, "hippo")
    turn(world, 2)
    for name, lr in (("bad", HOSTILE_TRIALS[kind]), ("good", 0.1)):
        spec = {"study": "ext", "steps": 4, "hyperparameters": {"lr": lr}}
        body = {
            "apiVersion": "hippo.dev/v1alpha1",
            "kind": "Trial",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": spec,
        }
        world._runner.do(world.server.create(TRIAL, NAMESPACE, body))
    world.apply("sound", steps=4, space={"lr": {"choices": [0.1]}})
    turn(world)
    assert status(world, "sound")["phase"] == "Succeeded"
    assert status(world, "ext")["phase"] == "Running"
    assert world.server.find(TRIAL, "good")["status"]["phase"] == "Completed"
    bad = world.server.find(TRIAL, "bad")["status"]
    assert bad["phase"] in ("Rejected", "Completed")
    assert bad["phase"] == "Completed" or bad["reason"].count("\n") == 0


@pytest.mark.parametrize(
    ("what", "read"), [(UserTrials, "post"), (Mailbox, "count")], ids=["trials", "requests"]
)
def test_trials_and_requests_that_cannot_be_read_are_their_studys_affair(
    world: World, what: type, read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    external = {"name": "external"}
    world.apply("hostile", steps=4, space={"lr": {"choices": [0.1]}}, algorithm=external)
    world.apply("sound", steps=4, space={"lr": {"choices": [0.1]}})

    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(what, read, fail)
    world.start_operator(0, "hippo")
    turn(world)
    check_only_hostile_stands(world, "MemoryError")


def test_a_study_whose_trials_the_server_refuses_stops_no_other(world: World) -> None:
    create = world.server.create

    async def refuse(resource: Any, namespace: str, body: Document, **options: Any) -> Document:
        if resource is TRIAL and body["metadata"]["name"].startswith("hostile"):
            raise Refused(422, "spec.hyperparameters: Too long")
        return await create(resource, namespace, body, **options)

    world.server.create = refuse  # type: ignore[method-assign]
    apply_both(world)
    world.start_operator(0, "hippo")
    turn(world)
    check_only_hostile_stands(world, "the API server does not take its Trials: spec.hyper")


def test_blame_names_a_study_and_leaves_alone_what_is_not_its_own() -> None:
    with (
        pytest.raises(StudyFault, match="study a cannot go on: ValueError: one two") as caught,
        blame("b"),
        blame("a"),
    ):
        raise ValueError("one\ntwo" + "x" * 5000)
    assert len(str(caught.value)) < 400
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(InvariantViolated), blame("a"):
        raise InvariantViolated("a defect")
    with pytest.raises(OSError, match="gone"), blame("a", OSError):
        raise OSError("gone")
    with pytest.raises(KeyboardInterrupt), blame("a"):
        raise KeyboardInterrupt


def put_trial(world: World, name: str, spec: Document, **labels: str) -> None:
    body = {
        "apiVersion": "hippo.dev/v1alpha1",
        "kind": "Trial",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {"study": "x", "steps": 4, "hyperparameters": {"lr": 0.1}, **spec},
    }
    world._runner.do(world.server.create(TRIAL, NAMESPACE, body))


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "later"])
def test_a_trial_of_its_name_keeps_a_study_alone_until_it_is_gone(world: World, when: str) -> None:
    apply_both(world, steps=40)
    world.start_operator(0, "hippo")
    if when == "later":
        turn(world, 1)
        world.server.remove(TRIAL, "hostile-0")
        world.kill_operator(0)
        world.start_operator(0, "hippo")
    put_trial(world, "hostile-0", {})
    turn(world)
    check_only_hostile_stands(world, "a Trial hostile-0 exists that Hippo did not make: delete it")
    gone = world.server.find(TRIAL, "hostile-0")
    world.server.remove(TRIAL, "hostile-0")
    world.operators[0].operator.trial_changed(gone, is_gone=True)
    turn(world, 60)
    assert status(world, "hostile")["phase"] == "Succeeded", status(world, "hostile")["message"]
    world.check_end()


FORGED_CHAINS = ["../../x", "x/../../../namespaces/other/pods/y", "x" * 300, "", "a\nb", "r9-99999"]


@pytest.mark.parametrize("name", FORGED_CHAINS)
def test_a_chain_that_somebody_else_wrote_into_the_plan_stops_nothing(
    world: World, name: str
) -> None:
    world.apply("sound", steps=40, space={"lr": {"choices": [0.1]}})
    world.start_operator(0, "hippo")
    turn(world, 1)
    world.kill_operator(0)
    (plan,) = world.server.names(SEARCH_PLAN)
    found = world.server.find(SEARCH_PLAN, plan)
    found["status"]["chains"].append({"name": name, "study": "sound"})
    world.server.touch(found)
    world.start_operator(0, "hippo")
    turn(world, 30)
    assert status(world, "sound")["phase"] == "Succeeded", status(world, "sound")["message"]
    world.check_end()


@pytest.mark.parametrize("kind", ["suggest", "fail"])
def test_trials_that_only_look_like_a_studys_decide_nothing(world: World, kind: str) -> None:
    apply_both(world)
    decision = {"index": 0, "kind": kind, "steps": 4, "reason": "evil"}
    spec = {"study": "hostile", "index": 0, "hyperparameters": {"lr": 9.0}, "decisions": [decision]}
    uid = world.server.find(STUDY, "hostile")["metadata"]["uid"]
    ours = {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_STUDY_UID: uid}
    put_trial(world, "forged", spec, **ours)
    put_trial(world, "hostile-0", spec, **ours)
    world.start_operator(0, "hippo")
    turn(world)
    assert status(world, "hostile")["phase"] == "Succeeded", status(world, "hostile")["message"]
    assert world.server.find(TRIAL, "hostile-0")["spec"]["hyperparameters"] == {"lr": ODD}
    assert not any(b"evil" in data for data in world.blobs.values())


def within(levels: int, wrap: Callable[[Any], Any], value: Any) -> Any:
    for _ in range(levels):
        value = wrap(value)
    return value


TRAINER = {"entrypoint": "a:b", "image": "c"}
AS_DEEP_AS_ALLOWED: dict[str, dict[str, Any]] = {
    "schedules": {
        "space": {"lr": {"choices": [within(31, lambda v: {"piecewise": [[0, v]]}, 0.1)]}}
    },
    "config": {"trainer": {**TRAINER, "config": {"x": within(63, lambda v: [v], 1)}}},
}


@pytest.mark.parametrize("kind", AS_DEEP_AS_ALLOWED)
def test_what_a_study_may_nest_the_store_can_hold(world: World, kind: str) -> None:
    spec = {"steps": 4, "space": {"lr": {"choices": [0.1]}}, **AS_DEEP_AS_ALLOWED[kind]}
    world.apply("deep", **spec)
    for _ in range(2):
        world.start_operator(0, "hippo")
        turn(world)
        assert status(world, "deep")["phase"] == "Succeeded", status(world, "deep")["message"]
        world.kill_operator(0)


LONG = "x" * 1_025
TOO_LONG: dict[str, dict[str, Any]] = {
    "spec.trainer.entrypoint": {"trainer": {**TRAINER, "entrypoint": f"a:{LONG}"}},
    "spec.trainer.image": {"trainer": {**TRAINER, "image": LONG}},
    "spec.trainer.version": {"trainer": {**TRAINER, "version": LONG}},
    "spec.objective.metric": {"objective": {"metric": LONG, "goal": "maximize"}},
    "spec.objective.testMetric": {
        "objective": {"metric": "score", "testMetric": LONG, "goal": "maximize"}
    },
    "spec.space": {"space": {LONG: {"choices": [1]}}},
}


@pytest.mark.parametrize("field", TOO_LONG)
def test_names_have_a_greatest_length(world: World, field: str) -> None:
    body = study_document("hostile", **{"steps": 4, **TOO_LONG[field]})
    world._runner.do(world.server.create(STUDY, NAMESPACE, body))
    world.start_operator(0, "hippo")
    turn(world, 1)
    found = status(world, "hostile")
    assert found["phase"] == "Rejected"
    assert found["message"].startswith(f"{field}: ")
    assert "1,024 characters" in found["message"]


def test_whatever_the_taking_of_a_study_fails_with_is_said_in_its_status(world: World) -> None:
    apply_both(world)
    take = admission.build_dry_runs

    def fail(study: Any, settings: Any) -> Any:
        if study.name == "hostile":
            raise KeyError("odd")
        return take(study, settings)

    with mock.patch.object(admission, "build_dry_runs", fail):
        world.start_operator(0, "hippo")
        turn(world)
    assert status(world, "sound")["phase"] == "Succeeded"
    found = status(world, "hostile")
    assert (found["phase"], found["message"]) == ("Rejected", "it cannot be taken: KeyError: 'odd'")


def refusing_status(world: World, kind: Any, begins: str) -> Any:
    put = world.server.set_status

    async def refuse(resource: Any, namespace: str, name: str, *rest: Any, **options: Any) -> Any:
        if resource is kind and name.startswith(begins):
            raise Refused(422, f"{name} is invalid: spec.objective.metric: Too long")
        return await put(resource, namespace, name, *rest, **options)

    return mock.patch.object(world.server, "set_status", refuse)


@pytest.mark.parametrize("kind", [STUDY, TRIAL], ids=lambda kind: kind.plural)
def test_an_object_whose_status_the_server_does_not_take_stops_nobody(
    world: World, kind: Any
) -> None:
    apply_both(world)
    with refusing_status(world, kind, "hostile"):
        world.start_operator(0, "hippo")
        turn(world)
    assert status(world, "sound")["phase"] == "Succeeded"
    assert world.server.find(TRIAL, "sound-0")["status"]["phase"] == "Completed"
    world.kill_operator(0)
    world.start_operator(0, "hippo")
    turn(world)
    assert status(world, "hostile")["phase"] == "Succeeded"


def test_a_trial_of_a_study_that_holds_what_cannot_be_is_made_anew(world: World) -> None:
    world.apply("s", steps=40, space={"lr": {"choices": [0.1]}})
    world.start_operator(0, "hippo")
    turn(world, 1)
    world.kill_operator(0)
    found = world.server.find(TRIAL, "s-0")
    found["spec"]["decisions"][0]["index"] = 10**9
    world.server.touch(found)
    world.start_operator(0, "hippo")
    turn(world, 30)
    assert status(world, "s")["phase"] == "Succeeded", status(world, "s")["message"]
    assert world.server.find(TRIAL, "s-0")["spec"]["decisions"][0]["index"] == 0
    world.check_end()


def test_a_stray_whose_status_is_not_taken_keeps_no_other_from_being_told(world: World) -> None:
    strays = OrphanTrials(world.server.api)
    for name in ("hostile", "other"):
        put_trial(world, name, {})
    found = {name: world.server.find(TRIAL, name) for name in ("hostile", "other")}
    with refusing_status(world, TRIAL, "hostile"):
        world._runner.do(strays.tell({NAMESPACE: found}, lambda *_: None))
    told = [name for name in found if "status" in world.server.find(TRIAL, name)]
    assert told == ["other"]


def test_a_trial_that_another_operator_has_taken_is_no_stray(world: World) -> None:
    """This one has seen neither the study nor the Trial's status yet."""
    strays = OrphanTrials(world.server.api)
    put_trial(world, "taken", {})
    seen = copied(world.server.find(TRIAL, "taken"))
    world.server.find(TRIAL, "taken")["status"] = {"phase": "Running"}
    world._runner.do(strays.tell({NAMESPACE: {"taken": seen}}, lambda *_: None))
    assert world.server.find(TRIAL, "taken")["status"] == {"phase": "Running"}
