"""Successive halving and its asynchronous form, against the rules of their papers."""

from __future__ import annotations

import random

import pytest

from hippo.tune import Result, Tuner, create_tuner
from hippo.tune.ordering import tie
from hippo.tune.rungs import rung_steps
from tests.unit.tune.simulation import CONTINUOUS, Simulation, distinct, make_study


def sha(**settings: int) -> dict[str, object]:
    return {"name": "sha", "eta": 3, "minSteps": 1, **settings}


def asha(**settings: int) -> dict[str, object]:
    return {"name": "asha", "eta": 3, "minSteps": 1, **settings}


# -- rungs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("least", "eta", "steps", "expected"),
    [
        (1, 3, 27, (1, 3, 9, 27)),
        (1, 3, 243, (1, 3, 9, 27, 81, 243)),
        (10, 3, 120, (10, 30, 90, 120)),
        (5, 2, 5, (5,)),
        (1, 2, 2, (1, 2)),
        (10, 10, 10**6, (10, 100, 1000, 10**4, 10**5, 10**6)),
    ],
)
def test_rungs(least: int, eta: int, steps: int, expected: tuple[int, ...]) -> None:
    assert rung_steps(least, eta, steps) == expected
    study = make_study({"name": "sha", "eta": eta, "minSteps": least}, max_trials=3, steps=steps)
    assert create_tuner(study).rungs == expected


@pytest.mark.parametrize(("least", "eta", "steps"), [(0, 3, 9), (1, 1, 9), (10, 3, 9)])
def test_rungs_that_lead_nowhere(least: int, eta: int, steps: int) -> None:
    with pytest.raises(ValueError, match="no rungs"):
        rung_steps(least, eta, steps)


# -- successive halving ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trials", "eta", "steps", "sizes"),
    [
        # Hyperband's brackets for R = 27 (s = 3, 2) and R = 81 (s = 4, 3; the paper's table 1).
        (27, 3, 27, [27, 9, 3, 1]),
        (81, 3, 81, [81, 27, 9, 3, 1]),
        (20, 3, 27, [20, 6, 2, 1]),
        (16, 2, 8, [16, 8, 4, 2]),
        (5, 3, 27, [5, 1, 1, 1]),
        (1, 3, 27, [1, 1, 1, 1]),
    ],
)
def test_sha_follows_the_table(trials: int, eta: int, steps: int, sizes: list[int]) -> None:
    study = make_study(sha(eta=eta), max_trials=trials, steps=steps, space=CONTINUOUS)
    simulation = Simulation(study).run()
    assert [simulation.count_at(rung) for rung in simulation.tuner.rungs] == sizes


@pytest.mark.parametrize("goal", ["maximize", "minimize"])
def test_sha_keeps_the_best_of_each_rung(goal: str) -> None:
    study = make_study(sha(), max_trials=27, space=CONTINUOUS, goal=goal)
    simulation = Simulation(study).run()
    alive = list(range(27))
    for here, following in ((1, 3), (3, 9), (9, 27)):
        alive.sort(key=lambda trial: distinct(trial, here), reverse=goal == "maximize")
        alive = alive[: len(alive) // 3]
        assert {t for t, asked in simulation.asked().items() if following in asked} == set(alive)


def test_sha_does_not_depend_on_the_order_of_results() -> None:
    study = make_study(sha(), max_trials=27)
    runs = [Simulation(study, workers=1 + seed % 9, seed=seed).run() for seed in range(20)]
    assert all(run.decisions == runs[0].decisions for run in runs)


def test_sha_waits_for_the_last_result_of_a_rung() -> None:
    tuner = create_tuner(make_study(sha(), max_trials=9))
    for decision in tuner.decide(1):
        tuner.apply(decision)
    for trial in range(8):
        tuner.tell(Result(trial, 1, float(trial)))
        assert tuner.decide(9) == []
    tuner.tell(Result(8, 1, None))
    decisions = tuner.decide(0)
    assert [(d.kind, d.trial, d.steps) for d in decisions] == [
        *[("promote", trial, 3) for trial in (7, 6, 5)],
        *[("stop", trial, 1) for trial in (4, 3, 2, 1, 0)],
    ]
    assert decisions[1].reason == "rung 0 (1 step): 2nd of 9, the best 3 go on to 3"
    assert decisions[3].reason == "not among the best 3 of 9 at step 1 (4th)"


def test_ties_are_broken_by_the_seeded_hash_alone() -> None:
    chosen = []
    for seed in range(5):
        study = make_study(sha(seed=seed), max_trials=9, space=CONTINUOUS)
        simulation = Simulation(study, lambda trial, step: 0.5).run()
        promoted = {trial for trial, asked in simulation.asked().items() if 3 in asked}
        assert promoted == set(sorted(range(9), key=lambda trial: tie(seed, trial))[:3])
        chosen.append(frozenset(promoted))
    assert len(set(chosen)) > 1


def test_survivors_of_a_rung_of_failures_go_on() -> None:
    study = make_study(sha(), max_trials=9)
    simulation = Simulation(study, lambda trial, step: 1.0 if trial < 2 else None).run()
    assert [simulation.count_at(rung) for rung in simulation.tuner.rungs] == [9, 2, 1, 1]


def test_a_rung_of_which_all_failed_ends_the_study() -> None:
    study = make_study(sha(), max_trials=9)
    simulation = Simulation(study, lambda trial, step: 1.0 if step == 1 else None).run()
    assert [simulation.count_at(rung) for rung in simulation.tuner.rungs] == [9, 3, 0, 0]


def test_trials_added_after_a_verdict_form_their_own_bracket() -> None:
    simulation = Simulation(make_study(sha(), max_trials=9), workers=9)
    simulation.decide()
    for _ in range(9):
        simulation.finish_one()
    simulation.decide()
    simulation.tuner.resize(18)
    simulation.run()
    first = [sum(r in a for t, a in simulation.asked().items() if t < 9) for r in (1, 3, 9, 27)]
    second = [sum(r in a for t, a in simulation.asked().items() if t >= 9) for r in (1, 3, 9, 27)]
    assert first == second == [9, 3, 1, 1]


# -- the asynchronous form -------------------------------------------------------------------------


class Paper:
    """Algorithm 2 of Li et al. (MLSys 2020), word for word: no regard for speed.

    run_then_return_val_loss is the caller's; losses are minimized, ties broken by the stated hash.
    """

    def __init__(self, reduction: int, rungs: int, seed: int, most: int) -> None:
        self.reduction, self.top, self.seed, self.most = reduction, rungs - 1, seed, most
        self.losses: list[dict[int, float]] = [{} for _ in range(rungs)]
        self.promoted: list[set[int]] = [set() for _ in range(rungs)]
        self.drawn = 0

    def get_job(self) -> tuple[int, int] | None:
        for rung in range(self.top - 1, -1, -1):
            losses = self.losses[rung]
            order = sorted(losses, key=lambda trial: (losses[trial], tie(self.seed, trial)))
            candidates = order[: len(losses) // self.reduction]
            promotable = [trial for trial in candidates if trial not in self.promoted[rung]]
            if promotable:
                self.promoted[rung].add(promotable[0])
                return promotable[0], rung + 1
        if self.drawn == self.most:
            return None
        self.drawn += 1
        return self.drawn - 1, 0


def jobs(tuner: Tuner, idle: int) -> list[tuple[int, int]]:
    """Returns and records what idle workers would do, as (trial, rung)."""
    found = []
    for decision in tuner.decide(idle):
        if decision.kind == "stop":
            break
        tuner.apply(decision)
        found.append((decision.trial, tuner.rungs.index(decision.steps)))
    return found


@pytest.mark.parametrize("seed", range(60))
def test_asha_does_what_the_paper_says(seed: int) -> None:
    generator = random.Random(seed)
    eta, trials = generator.choice([2, 3, 4]), generator.randint(1, 60)
    goal = generator.choice(["maximize", "minimize"])
    sign = 1.0 if goal == "minimize" else -1.0
    levels = generator.choice([2, 5, 10**9])  # few levels: many ties
    study = make_study(
        asha(eta=eta, seed=seed), max_trials=trials, steps=32, space=CONTINUOUS, goal=goal
    )
    tuner = create_tuner(study)
    paper = Paper(eta, len(tuner.rungs), seed, trials)
    running: list[tuple[int, int]] = []
    workers = generator.randint(1, 12)
    while True:
        idle = workers - len(running)
        expected = [job for _ in range(idle) if (job := paper.get_job()) is not None]
        assert jobs(tuner, idle) == expected
        running += expected
        if not running:
            break
        for _ in range(generator.randint(1, len(running))):
            trial, rung = running.pop(generator.randrange(len(running)))
            value = float(generator.randrange(levels))
            failed = generator.random() < 0.1
            # The paper knows no failures: an infinite loss, never promoted.
            paper.losses[rung][trial] = float("inf") if failed else sign * value
            paper.promoted[rung] |= {trial} if failed else set()
            tuner.tell(Result(trial, tuner.rungs[rung], None if failed else value))
    for decision in tuner.decide(0):
        tuner.apply(decision)
    assert tuner.finished


def test_asha_depends_on_the_order_of_results_and_on_nothing_else() -> None:
    study = make_study(asha(), max_trials=30)
    runs = [Simulation(study, workers=5, seed=seed).run() for seed in range(12)]
    assert len({tuple(sorted(run.stopped())) for run in runs}) > 1
    assert all(
        Simulation(study, workers=5, seed=seed).run().history == runs[seed].history
        for seed in range(3)
    )


def test_asha_asks_for_no_more_than_workers_can_take() -> None:
    tuner = create_tuner(make_study(asha(), max_trials=30))
    assert tuner.decide(0) == []
    for idle in (1, 2, 3):
        assert len(jobs(tuner, idle)) == idle
    assert jobs(tuner, -1) == []


def test_asha_gives_its_reasons() -> None:
    tuner = create_tuner(make_study(asha(), max_trials=5))
    assert len(jobs(tuner, 9)) == 5
    for trial, value in enumerate([0.5, 0.9, 0.1]):
        tuner.tell(Result(trial, 1, value))
    (promotion,) = tuner.decide(9)
    assert promotion.reason == "rung 0 (1 step): 1st of 3 so far, the best one goes on to 3"
    tuner.apply(promotion)
    tuner.tell(Result(1, 3, 0.9))
    assert tuner.decide(9) == []
    for trial in (3, 4):
        tuner.tell(Result(trial, 1, None))
    assert [(d.kind, d.trial, d.steps, d.reason) for d in tuner.decide(0)] == [
        (
            "stop",
            0,
            1,
            "the study is over: 2nd of 5 at step 1, not among the best one",
        ),
        ("stop", 1, 3, "the study is over: 1st of 1 at step 3, fewer than 3 to choose from"),
        ("stop", 2, 1, "the study is over: 3rd of 5 at step 1, not among the best one"),
    ]


@pytest.mark.slow
def test_ten_thousand_trials_are_ordinary() -> None:
    study = make_study(asha(), max_trials=10_000, space=CONTINUOUS, steps=243)
    tuner = create_tuner(study)
    generator = random.Random(0)
    running: list[tuple[int, int]] = []
    decided = 0
    while True:
        decisions = tuner.decide(40 - len(running))
        for decision in decisions:
            tuner.apply(decision)
        decided += len(decisions)
        if tuner.finished:
            break
        running += [(d.trial, d.steps) for d in decisions if d.kind != "stop"]
        trial, step = running.pop(generator.randrange(len(running)))
        tuner.tell(Result(trial, step, generator.random()))
    assert decided > 20_000
