"""The CRDs that are made from the models: structural, described, and as wide as the models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from hippo.kube.crds.admission_policy import build_policies
from hippo.kube.crds.definitions import build_crds
from hippo.kube.crds.files import crd_files, policy_files
from hippo.kube.status.models import SearchPlanStatus, StudyStatus, TrialStatus
from hippo.model import AlgorithmSettings, InvalidSpec, parse_study
from hippo.model.trial import parse_trial_spec
from tests import strategies
from tests.unit.kube.structural import RULES, nodes, refusals, structure_problems

ROOT = Path(__file__).parents[4]
CRDS = {crd["metadata"]["name"]: crd for crd in build_crds()}
STUDY, TRIAL, PLAN = CRDS


def schema_of(name: str) -> dict[str, Any]:
    (version,) = CRDS[name]["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    assert isinstance(schema, dict)
    return schema


SPEC = schema_of(STUDY)["properties"]["spec"]
CHOICE = SPEC["properties"]["space"]["additionalProperties"]["properties"]["choices"]["items"]


@pytest.mark.parametrize(
    ("folder", "command", "made"),
    [
        ("crds", "hippo crds", crd_files),
        ("crds/policies", "hippo crds --policies", policy_files),
        ("charts/hippo/files/crds", "hippo crds", crd_files),
        ("charts/hippo/files/policies", "hippo crds --policies", policy_files),
    ],
)
def test_files_are_what_the_models_say(
    folder: str, command: str, made: Callable[[], dict[str, str]]
) -> None:
    there = {file.name: file.read_text() for file in (ROOT / folder).glob("*.yaml")}
    if there != made():
        pytest.fail(f"{folder} is out of date: run  {command} --directory {folder}", pytrace=False)


@pytest.mark.slow
def test_files_read_back_as_they_were_made() -> None:
    """By the rules of YAML 1.1, which are kubectl's."""
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 1)
    read = [
        document
        for files in (crd_files(), policy_files())
        for text in files.values()
        for document in yaml.load_all(text)
    ]
    assert read == json.loads(json.dumps([*build_crds(), *build_policies()]))


@pytest.mark.parametrize("name", CRDS)
def test_schemas_are_structural(name: str) -> None:
    assert structure_problems(schema_of(name)) == []


@pytest.mark.parametrize("name", CRDS)
def test_kubectl_apply_can_note_what_was_applied(name: str) -> None:
    """In an annotation, of which a server takes 262,144 bytes in all."""
    assert len(json.dumps(CRDS[name], separators=(",", ":"))) < 131_072


@pytest.mark.parametrize("name", CRDS)
def test_every_field_is_described_and_none_has_a_default(name: str) -> None:
    schema = schema_of(name)
    for part in ("spec", "status"):
        for path, node in nodes(schema["properties"][part], part):
            assert "default" not in node, path
            for field, inner in node.get("properties", {}).items():
                assert inner.get("description", "").strip(), f"{path}.{field}"
                assert "``" not in inner["description"], f"{path}.{field}"


@pytest.mark.parametrize("name", CRDS)
def test_columns_and_rules_name_fields_that_exist(name: str) -> None:
    (version,) = CRDS[name]["spec"]["versions"]
    schema = schema_of(name)
    paths = {path for path, _ in nodes(schema)}
    for column in version["additionalPrinterColumns"]:
        assert column["jsonPath"] in paths | {".metadata.creationTimestamp"}
    for path, node in nodes(schema):
        for rule in node.get(RULES, ()):
            assert path + rule.get("fieldPath", "") in paths


def test_schedules_and_their_fields_are_those_of_the_reader() -> None:
    schedules = set(CHOICE["properties"]) - {"choices", "uniform", "int"}
    assert _known({"nothing": 1}, "unknown schedule 'nothing'; known: ") == schedules
    for name in schedules - {"piecewise"}:
        fields = CHOICE["properties"][name]
        assert _known({name: {"nothing": 1}}, "unknown field; known: ") == set(fields["properties"])
        assert set(fields["required"]) == set(fields["properties"])


def _known(choice: dict[str, Any], message: str) -> set[str]:
    with pytest.raises(InvalidSpec) as caught:
        parse_study(_study(space={"x": {"choices": [choice]}}))
    (line,) = (line for line in str(caught.value).splitlines() if message in line)
    return set(line.partition(message)[2].split(", "))


def test_algorithms_are_those_of_the_model() -> None:
    settings = SPEC["properties"]["algorithm"]["properties"]
    assert set(settings["name"]["enum"]) == set(AlgorithmSettings.NAMED)
    for model in AlgorithmSettings.NAMED.values():
        assert {field.alias for field in model.model_fields.values()} <= set(settings)


# -- what users write ------------------------------------------------------------------------------


def _study(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "hippo.dev/v1alpha1",
        "kind": "Study",
        "metadata": {"name": "digits"},
        "spec": {
            "objective": {"metric": "accuracy", "goal": "maximize"},
            "steps": 120,
            "space": {"lr": {"choices": [0.1]}},
            "algorithm": {"name": "grid"},
            "trainer": {"entrypoint": "trainer:DigitsTrainer"},
            **spec,
        },
    }


EXAMPLES = sorted((ROOT / "examples").glob("*/*.yaml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_examples_fit(file: Path) -> None:
    for document in YAML(typ="safe", pure=True).load_all(file.read_text()):
        parse_study(document)
        assert refusals(SPEC, document["spec"], "spec") == []


_DEEP = {"piecewise": [[0, {"piecewise": [[0, {"piecewise": [[0, {"piecewise": [[0, 1]]}]]}]]}]]}
_DOMAINS = [
    {"uniform": {"low": 1e-5, "high": 1.0, "log": True}},
    {"int": {"low": 2.0, "high": 9, "step": 2}},
    {"choices": [64, 128], "static": True},
    {"choices": ["adam", True, [0.9, 0.999], [], [["a"], [1]], -1, 0.0]},
    {"choices": [_DEEP, {"choices": [7, 8]}, {"int": {"low": 1, "high": 3}}]},
    {"choices": [{"cosine": {"initial": {"uniform": {"low": 1, "high": 2}}, "final": 0,
                             "steps": {"int": {"low": 5, "high": 9}}}}]},
    {"choices": [{"multistep": {"initial": {"choices": [1, 2]}, "gamma": 1,
                                "milestones": {"choices": [[10], [20, 30]]}}}]},
    {"choices": [{"multistep": {"initial": 1, "gamma": 1, "milestones": []}}]},
    {"choices": [{"polynomial": {"initial": 1.0, "final": 0, "steps": 5.0,
                                 "power": {"choices": [1, 2]}}}]},
]  # fmt: skip
_ALGORITHMS = [
    {"name": "grid"},
    {"name": "random", "seed": -1, "prefixFirst": {"late": 0, "weight": 0, "levels": 2.0}},
    {"name": "random", "prefixFirst": None},
    {"name": "sha", "minSteps": 10, "eta": 2},
    {"name": "asha", "minSteps": 120},
    {"name": "hyperband", "minSteps": 1},
    {"name": "median", "every": 7, "minTrials": 1},
    {"name": "pbt", "population": 4, "interval": 10, "quantile": 0.5, "factors": [0.5, 2]},
    {"name": "optuna", "sampler": "tpe", "settings": {"multivariate": True, "group": True}},
    {"name": "optuna", "sampler": "qmc", "settings": {"qmc_type": "halton"}},
    {"name": "external"},
]
_OTHERS: dict[str, list[Any]] = {
    "maxTrials": [None, 1, 48.0, 100_000],
    "maxFailedTrials": [0, 3],
    "replicates": [0, 5],
    "replicateBest": [1],
    "parallelism": [None, 4.0],
    "priority": [-(10**9), 0, 7],
    "suspend": [True, False],
    "budget": [
        {},
        {"workerHours": 0.5, "wallTime": "1h30m"},
        {"workerHours": 10, "wallTime": None},
    ],
    "retries": [0],
    "checkpoints": [{}, {"retain": "all", "every": "1.5m", "ttl": "0s"}],
    "objective": [
        {"metric": "loss", "goal": "minimize", "target": 0, "testMetric": "test/loss"},
        {"metric": "a b", "goal": "maximize", "target": -0.5},
    ],
    "steps": [120, 120.0, 10**12],
    "trainer": [
        {"entrypoint": "a.b_1.C:D.E", "config": {"note": None, "deep": [{"er": [1.5, "x", None]}]}},
        {"entrypoint": "größe:Ä", "seed": -3, "threads": 2, "version": "", "image": "a/b:1"},
        {
            "entrypoint": "a:B",
            "exactness": "relaxed",
            "maxGrace": "90s",
            "resources": {"limits": {}},
        },
        {"entrypoint": "a:B", "podTemplate": {"spec": {"containers": [{"env": []}], "x": None}}},
    ],
}


@st.composite
def _studies(draw: st.DrawFn) -> dict[str, Any]:
    domains = st.one_of(
        st.sampled_from(_DOMAINS),
        st.lists(
            strategies.values_and_schedules(), min_size=1, max_size=4, unique_by=json.dumps
        ).map(lambda choices: {"choices": choices}),
    )
    others = st.fixed_dictionaries(
        {}, optional={field: st.sampled_from(values) for field, values in _OTHERS.items()}
    )
    space = draw(st.dictionaries(st.sampled_from(["lr", "_x1", "Momentum"]), domains, min_size=1))
    return _study(space=space, algorithm=draw(st.sampled_from(_ALGORITHMS)), **draw(others))


@pytest.mark.slow
@given(_studies())
def test_what_the_model_takes_the_schema_takes(document: dict[str, Any]) -> None:
    try:
        study = parse_study(document)
    except InvalidSpec:
        return
    assert refusals(SPEC, document["spec"], "spec") == []
    assert refusals(SPEC, study.model_dump(mode="json")["spec"], "spec") == []


def test_the_studies_above_are_taken_one_by_one() -> None:
    """So that the property cannot hold for lack of cases."""
    for domain in _DOMAINS:
        parse_study(_study(space={"x": domain}, algorithm={"name": "random"}, maxTrials=3))
    for algorithm in _ALGORITHMS:
        space = {"x": {"int": {"low": 0, "high": 99}}}
        parse_study(_study(space=space, algorithm=algorithm))
    for field, values in _OTHERS.items():
        for value in values:
            parse_study(_study(**{field: value}))


@pytest.mark.parametrize(
    ("spec", "refused"),
    [
        ({"steps": 0}, "spec.steps: 0 is not within 1..1000000000000"),
        ({"paralelism": 1}, "spec.paralelism: unknown field"),
        ({"space": {"x": 0.1}}, "spec.space.x: must be of type object"),
        ({"space": {"x": {"choices": [{"cosin": {}}]}}}, "spec.space.x.choices[0]: anyOf"),
        (
            {
                "space": {
                    "x": {"choices": [{"warmup": {"from": 0, "steps": 0, "to": 1, "then": 1}}]}
                }
            },
            "spec.space.x.choices[0].warmup.steps: 0 is not within 1..9007199254740992",
        ),
        (
            {"space": {"x": {"choices": [{"exponential": {"initial": "1", "gamma": 1}}]}}},
            "spec.space.x.choices[0].exponential.initial: does not match a number, not text$.",
        ),
        (
            {
                "space": {
                    "x": {"choices": [{"multistep": {"initial": 1, "gamma": 1, "steps": [1]}}]}
                }
            },
            "spec.space.x.choices[0].multistep.milestones: is missing",
        ),
        ({"budget": {"wallTime": "soon"}}, "spec.budget.wallTime: does not match"),
    ],
)
def test_what_is_wrong_is_refused_by_path(spec: dict[str, Any], refused: str) -> None:
    document = _study(**spec)
    with pytest.raises(InvalidSpec):
        parse_study(document)
    assert any(line.startswith(refused) for line in refusals(SPEC, document["spec"], "spec"))


@given(st.dictionaries(st.sampled_from("abc"), strategies.values_and_schedules(), min_size=1))
def test_any_sequence_fits_a_trial(hyperparameters: dict[str, Any]) -> None:
    spec = {"study": "digits", "hyperparameters": hyperparameters, "steps": 10, "stop": False}
    parse_trial_spec(spec)
    assert refusals(schema_of(TRIAL)["properties"]["spec"], spec, "spec") == []


@pytest.mark.parametrize(
    ("name", "status"),
    [(STUDY, StudyStatus()), (TRIAL, TrialStatus()), (PLAN, SearchPlanStatus())],
)
def test_an_empty_status_fits(name: str, status: Any) -> None:
    written = status.model_dump(mode="json")
    assert refusals(schema_of(name)["properties"]["status"], written, "status") == []
