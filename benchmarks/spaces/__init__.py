"""The suite: search spaces from late branches to none, and tuners and teams that work on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hippo.model import Study, Value, load_studies, parse_study
from hippo.simulate import SyntheticCurves

FOLDER = Path(__file__).resolve().parent
NAMES = ("constants", "constant-batch", "mixed", "late")
"""Single studies, those that share little first."""

ALGORITHMS: dict[str, dict[str, Any]] = {
    "grid": {"name": "grid"},
    "sha": {"name": "sha", "eta": 3, "minSteps": 20},
    "asha": {"name": "asha", "eta": 3, "minSteps": 20},
    "hyperband": {"name": "hyperband", "eta": 3, "minSteps": 20},
    "median": {"name": "median", "every": 10, "minSteps": 20},
    "pbt": {"name": "pbt", "population": 40, "interval": 20},
}
"""By name: settings. Rungs at 20, 60 and 160 of 160 steps."""

TEAMS = (1, 2, 4, 8)
_LR_CHOICES = 8
SHIFTS = {"half": 4, "most": 1}
"""Of the next study's eight learning rates so many are others: half, or one."""

_SECONDS = {32: 2.6, 64: 1.6, 96: 1.2, 128: 1.0, 192: 0.8, 256: 0.7, 512: 0.55}


def load(name: str, algorithm: str = "grid") -> Study:
    """One of :data:`NAMES`, with one of :data:`ALGORITHMS`."""
    study = load_studies([FOLDER / f"{name}.yaml"])[0]
    return _with(study, name=f"{name}-{algorithm}", algorithm=ALGORITHMS[algorithm])


def load_teams(count: int, shift: int, algorithm: str = "grid") -> list[Study]:
    """So many studies of 72 trials, each with ``shift`` other rates than the one before."""
    base = load_studies([FOLDER / "team.yaml"])[0]
    space = base.model_dump(mode="json", by_alias=True, exclude_none=True)["spec"]["space"]
    rates = space["lr"]["choices"]
    studies = []
    for team in range(count):
        mine = [rates[team * shift + k] for k in range(_LR_CHOICES)]
        own = {**space, "lr": {"choices": mine}}
        studies.append(_with(base, name=f"team-{team}", algorithm=ALGORITHMS[algorithm], space=own))
    return studies


def limit(study: Study, parallelism: int) -> Study:
    """The same with so many workers at most."""
    return _with(study, name=study.name, parallelism=parallelism)


def _with(study: Study, *, name: str, **spec: Any) -> Study:
    document = study.model_dump(mode="json", by_alias=True, exclude_none=True)
    document["metadata"]["name"] = name
    document["spec"] |= spec
    return parse_study(document)


def step_seconds(values: Mapping[str, Value]) -> float:
    """An epoch is shorter with larger batches: stated, after what GPUs do."""
    size = values.get("batch_size", 128)
    assert isinstance(size, int)
    return _SECONDS[size]


def synthetic(studies: list[Study]) -> SyntheticCurves:
    """Learning curves for all of them."""
    objectives = tuple(study.spec.objective for study in studies)
    return SyntheticCurves(objectives, max(study.spec.steps for study in studies))
