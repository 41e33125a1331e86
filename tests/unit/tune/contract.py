"""The contract of all tuners. Subclass it and supply settings."""

from __future__ import annotations

import math
import random
from typing import Any, ClassVar

import pytest

from hippo.model import InvalidSpec, canonical_json
from hippo.protocol.decisions import Decision
from hippo.tune import Result, create_tuner
from tests.unit.tune.simulation import (
    CONTINUOUS,
    FINITE,
    Simulation,
    Values,
    make_study,
    replay,
    replay_grouped,
)


def plain(trial: int, step: int) -> float:
    return random.Random(trial * 100 + step).random()


def tied(trial: int, step: int) -> float:
    return float(trial % 2)


def fragile(trial: int, step: int) -> float | None:
    draw = random.Random(trial * 77 + step).random()
    return None if draw < 0.3 else math.nan if draw < 0.4 else draw


def hopeless(trial: int, step: int) -> None:
    return None


VALUES: list[Values] = [plain, tied, fragile, hopeless]


class TunerContract:
    """``algorithm`` is as written in a study; with ``early``, trials may be stopped early; with
    ``begins_anywhere``, a trial's first request need not end at the first rung.
    """

    algorithm: ClassVar[dict[str, Any]]
    max_trials: ClassVar[int | None] = 20
    early = False
    begins_anywhere = False
    finite_only = False

    def study(self, **changes: Any) -> Any:
        return make_study(self.algorithm, **{"max_trials": self.max_trials, **changes})

    def simulations(self) -> list[Simulation]:
        return [
            Simulation(self.study(), values, workers=workers, seed=workers).run()
            for values in VALUES
            for workers in (1, 3, 8)
        ]

    def test_every_trial_ends_with_a_reason(self) -> None:
        for simulation in self.simulations():
            failed = {
                result.trial
                for result in simulation.results
                if result.value is None or math.isnan(result.value)
            }
            stopped = simulation.stopped()
            steps = simulation.study.spec.steps
            arrived = {result.trial for result in simulation.results if result.step == steps}
            for trial, asked in simulation.asked().items():
                is_complete = asked[-1] == steps and trial in arrived
                assert (trial in failed) + (trial in stopped) + (
                    is_complete and trial not in failed
                ) == 1
            assert all(decision.reason for decision in simulation.decisions)
            if not self.early:
                assert not stopped

    def test_decisions_are_numbered_and_go_forward(self) -> None:
        for simulation in self.simulations():
            decisions = simulation.decisions
            assert [decision.index for decision in decisions] == list(range(len(decisions)))
            new = [decision for decision in decisions if decision.kind == "suggest"]
            assert [decision.trial for decision in new] == list(range(len(new)))
            assert all((d.hyperparameters is not None) == (d.kind == "suggest") for d in decisions)
            rungs = simulation.tuner.rungs
            assert rungs[-1] == simulation.study.spec.steps
            for asked in simulation.asked().values():
                first = rungs.index(asked[0])
                assert first == 0 or self.begins_anywhere
                assert tuple(asked) == rungs[first : first + len(asked)]

    def test_suggests_no_more_than_it_may(self) -> None:
        for most in (1, 7, 20, 36, 50):
            simulation = Simulation(self.study(max_trials=most)).run()
            assert len(simulation.asked()) == min(most, 36)
            assert simulation.tuner.exhausted

    def test_never_suggests_a_point_of_a_finite_space_twice(self) -> None:
        simulation = Simulation(self.study(max_trials=None)).run()
        points = [
            canonical_json(decision.hyperparameters)
            for decision in simulation.decisions
            if decision.kind == "suggest"
        ]
        assert len(points) == len(set(points)) == 36
        assert self.study(space=FINITE).search_space().size == 36

    def test_draws_from_continuous_spaces(self) -> None:
        if self.finite_only:
            with pytest.raises(InvalidSpec, match="is continuous"):
                self.study(space=CONTINUOUS)
            return
        simulation = Simulation(self.study(space=CONTINUOUS)).run()
        points = [d.hyperparameters for d in simulation.decisions if d.kind == "suggest"]
        assert len(points) == self.max_trials
        assert all(1e-4 <= point["lr"] <= 1.0 for point in points if point is not None)

    def test_decide_is_pure(self) -> None:
        simulation = Simulation(self.study(), fragile)
        for _ in range(1000):
            once = simulation.tuner.decide(simulation.idle)
            simulation.tuner.decide(5)
            simulation.tuner.decide(0)
            assert simulation.tuner.decide(simulation.idle) == once
            simulation.decide()
            if not simulation.running:
                break
            simulation.finish_one()
        assert simulation.tuner.finished

    @pytest.mark.slow
    @pytest.mark.parametrize("values", VALUES)
    def test_a_restart_at_any_point_goes_on_alike(self, values: Values) -> None:
        study = self.study()
        history = Simulation(study, values, workers=4).run().history
        tuner = create_tuner(study)
        for length, entry in enumerate(history):
            for restarted in (
                replay(study, history[:length]),
                replay_grouped(study, history[:length], seed=length),
            ):
                for idle in (0, 1, 4):
                    assert restarted.decide(idle) == tuner.decide(idle)
                assert restarted.finished == tuner.finished
                assert restarted.exhausted == tuner.exhausted
                known = sum(
                    isinstance(e, Decision) and e.kind == "suggest" for e in history[:length]
                )
                assert [restarted.may_continue(trial) for trial in range(known)] == [
                    tuner.may_continue(trial) for trial in range(known)
                ]
            if isinstance(entry, Decision):
                tuner.apply(entry)
            else:
                tuner.tell(entry)
        assert tuner.finished
        assert tuner.decide(4) == []

    def test_failures_decided_by_the_engine_count_like_results(self) -> None:
        study = self.study()
        history = Simulation(study, fragile, workers=4).run().history
        told, index = create_tuner(study), 0
        for entry in history:
            if isinstance(entry, Decision):
                told.apply(entry.model_copy(update={"index": index}))
                index += 1
            elif entry.value is None:
                failure = Decision(
                    index=index, kind="fail", trial=entry.trial, steps=entry.step, reason="it broke"
                )
                told.apply(failure)
                index += 1
                told.tell(Result(entry.trial, entry.step, None))
            else:
                told.tell(entry)
        assert told.finished

    @staticmethod
    def may_be_tried_again(simulation: Simulation) -> set[int]:
        """Returns failed trials whose results would count."""
        return simulation.failed()

    @pytest.mark.parametrize("values", [fragile, hopeless])
    def test_trials_that_failed_have_results_after_all(self, values: Values) -> None:
        """Earlier decisions stand; a late result counts from then on."""
        for workers in (1, 4):
            ended = Simulation(self.study(), values, workers=workers).run()
            retried = self.may_be_tried_again(ended)
            again = ended.tried_again(plain, self.may_be_tried_again)
            again.run()
            assert again.decisions[: len(ended.decisions)] == ended.decisions
            steps = again.study.spec.steps
            arrived = {result.trial for result in again.results if result.step == steps}
            for trial in retried:
                assert trial in arrived or trial in again.stopped()
            if values is hopeless and retried:
                assert (
                    max(result.step for result in again.results) > again.tuner.rungs[0] or arrived
                )
            assert again.tuner.finished
            for shuffled in range(3):
                told = replay_grouped(again.study, again.history, seed=shuffled)
                assert told.finished
                assert told.decide(workers) == []

    def test_trials_may_continue_until_they_have_ended(self) -> None:
        simulation = Simulation(self.study(), fragile, workers=4)
        while not simulation.tuner.finished:
            simulation.decide()
            ended = simulation.stopped() | {
                result.trial
                for result in simulation.results
                if result.value is None or math.isnan(result.value)
            }
            for trial, asked in simulation.asked().items():
                last = asked[-1] == simulation.study.spec.steps
                assert simulation.tuner.may_continue(trial) == (not last and trial not in ended)
            if simulation.running:
                simulation.finish_one()

    def test_refuses_decisions_out_of_order(self) -> None:
        tuner = create_tuner(self.study())
        first = tuner.decide(2)[0]
        for wrong in (
            {"index": 1},
            {"trial": 1},
            {"kind": "promote"},
            {"steps": 5},
        ):
            with pytest.raises(ValueError, match="decision"):
                tuner.apply(first.model_copy(update=wrong))
        assert tuner.decide(2)[0] == first

    def test_results_between_rungs_and_late_ones_change_nothing(self) -> None:
        simulation = Simulation(self.study(), plain, workers=4)
        simulation.decide()
        for _ in range(10):
            simulation.finish_one()
            before = simulation.tuner.decide(2)
            done = simulation.results[-1]
            for extra in (Result(done.trial, done.step, 9.0), Result(done.trial, 5, 9.0)):
                simulation.tuner.tell(extra)
            assert simulation.tuner.decide(2) == before
            simulation.decide()

    def test_more_trials_may_be_asked_for_on_the_way(self) -> None:
        for moment in (0, 1, 5, 15, 19):
            simulation = Simulation(self.study(), plain, workers=4)
            for _ in range(moment):
                simulation.decide()
                simulation.finish_one()
            simulation.tuner.resize(31)
            simulation.run()
            assert len(simulation.asked()) == 31
            larger = self.study(max_trials=31)
            assert replay(larger, simulation.history).finished
            for trial, asked in simulation.asked().items():
                assert asked[-1] == 27 or trial in simulation.stopped()

    def test_more_trials_may_be_asked_for_after_the_end(self) -> None:
        simulation = Simulation(self.study(), plain, workers=4).run()
        before = simulation.decisions
        simulation.tuner.resize(31)
        assert not simulation.tuner.finished
        simulation.run()
        assert simulation.decisions[: len(before)] == before
        assert len(simulation.asked()) == 31
        steps = simulation.study.spec.steps
        assert any(simulation.asked()[trial][-1] == steps for trial in range(20, 31))
