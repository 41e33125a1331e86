"""What a study's status says of its trials while they are trained."""

from __future__ import annotations

import pytest

from hippo.kube.status.builder import fill_study_status, show
from hippo.kube.status.models import StudyStatus
from tests.unit.engine.test_sharing import rates
from tests.world import World, build_study


def status_of(world: World, name: str = "s") -> StudyStatus:
    return fill_study_status(StudyStatus(), world.engine, world.engine.studies[name])


def test_trials_that_are_paused_count_as_under_way_not_as_nothing() -> None:
    """Under asha many are paused for long, and none has ended."""
    asha = {"name": "asha", "eta": 2, "minSteps": 2}
    space = rates(*(number / 100 for number in range(1, 13)))
    world = World([build_study(space=space, algorithm=asha, steps=8)], workers=3)
    seen: set[str] = set()
    while world.engine.studies["s"].is_active:
        assert world.advance()
        status = status_of(world)
        counts = status.trials
        assert counts is not None
        under_way = counts.pending + counts.paused
        told = dict(
            reversed(part.split(" ")) for part in (status.underway or "").split(", ") if part
        )
        assert sum(map(int, told.values())) == under_way
        assert int(told.get("paused", 0)) == counts.paused
        assert int(told.get("running", 0)) == counts.running <= len(world.engine.chains)
        seen |= told.keys()
    assert seen == {"running", "waiting", "paused"}
    assert status_of(world).underway is None


def test_all_trials_run_whose_common_beginning_is_trained() -> None:
    fork = [{"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [n]}} for n in (6, 7, 8)]
    world = World([build_study(space={"lr": {"choices": fork}}, steps=12)], workers=1)
    told = []
    while world.engine.studies["s"].is_active:
        assert world.advance()
        told.append(status_of(world).underway)
    assert "3 running" in told
    assert "1 running, 1 waiting" in told, "behind the fork one worker trains one of them"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.26755434274673462, "0.267554"), (0.5, "0.5"), (1234567.0, "1.23457e+06"), (None, None)],
)
def test_a_table_shows_six_digits(value: float | None, shown: str | None) -> None:
    assert show(value) == shown
