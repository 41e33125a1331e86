"""A stage runner in virtual time, one action at a time: the protocol to the letter, a hash for a
model (``tests.world``), and the modelled store as its only data path.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from hippo.model import Sequence
from hippo.protocol.assignments import Assignment
from hippo.protocol.reports import (
    Arrived,
    Began,
    CheckpointSaved,
    ControlAnswered,
    Ended,
    MetricsReported,
    Outcome,
    WorkerError,
)
from hippo.store import CorruptCheckpoint, PlanStore, StoreError
from tests.model_checking.faults import Killed
from tests.world import can_take, evaluate, seeded_state, train

FINGERPRINT = {"kind": "modelled"}


class Worker:
    """Of one pod. ``steps`` yields after each action; once exhausted, the process has ended."""

    def __init__(
        self, assignment: Assignment, store: PlanStore, clock: Callable[[], float]
    ) -> None:
        self.assignment = assignment
        self.store = store
        self.clock = clock
        self.began = clock()
        self.is_told_to_leave = False
        self.unsaved: list[str] = []
        """Keys of the steps trained since the last checkpoint."""
        self.exit_code = 0
        self.on_trained: Callable[[str], None] = lambda key: None
        self.on_saved: Callable[[str], None] = lambda key: None
        self.step = assignment.start
        self.route = assignment.route
        self.steps = self._run()
        self._number = 0
        self._count = 0

    def _report(self, make: type[Any], step: int, **fields: Any) -> None:
        self.store.write_report(
            make(
                chain=self.assignment.chain,
                sequence_number=self._number,
                step=step,
                trained=self._count,
                train_seconds=float(self._count),
                worker_seconds=self.clock() - self.began,
                **fields,
            )
        )
        self._number += 1

    def _run(self) -> Iterator[None]:
        try:
            yield from self._train()
        except StoreError:
            self.exit_code = 74
        except Killed:  # by the model, in the middle of a request to the store
            self.exit_code = 137

    def _train(self) -> Iterator[None]:
        a = self.assignment
        route, t, version = a.route, a.start, 0
        sequence = Sequence.of(route.hyperparameters, route.steps)
        state = seeded_state(a.trainer.seed)
        if a.start:
            assert a.start_key == sequence.key(a.start, a.signature)
            try:
                manifest = self.store.read_manifest(a.start_key)
                state = json.loads(self.store.read_checkpoint(manifest))["state"]
            except CorruptCheckpoint as error:
                told = WorkerError(during="load", message=str(error), step=t)
                self._report(Ended, t, outcome=Outcome.CORRUPT, error=told)
                self.exit_code = 3
                return
        yield
        self._report(
            Began, t, studies=a.studies, fingerprint=FINGERPRINT, start_seconds=1, load_seconds=0
        )
        saved, evaluated = ({a.start} if a.start else set()), set[int]()
        outcome, has_arrived = Outcome.COMPLETED, False
        while True:
            yield
            control = self.store.read_control(a.chain)
            if control is not None and control.version > version:
                version = control.version
                accepted = can_take(control.route, route, sequence, t)
                if accepted:
                    route = self.route = control.route
                    has_arrived = False
                    sequence = Sequence.of(route.hyperparameters, route.steps)
                    if route.stop_at <= t:
                        outcome = Outcome.STOPPED
                self._report(ControlAnswered, t, version=version, accepted=accepted)
            is_leaving = self.is_told_to_leave
            is_stopping = t >= route.stop_at or is_leaving
            if (t in route.save_at or (is_stopping and route.save_at_stop)) and t not in saved | {
                0
            }:
                saved.add(t)
                yield from self._save(sequence.key(t, a.signature), t, state)
                continue  # a control may have come meanwhile
            if t in route.evaluate_at and t not in evaluated:
                evaluated.add(t)
                key = sequence.key(t, a.signature)
                self._report(
                    MetricsReported, t, key=key, metrics=evaluate(state), evaluate_seconds=0
                )
                continue
            if is_leaving:
                self._report(Ended, t, outcome=Outcome.PREEMPTED)
                self.exit_code = 143
                return
            if is_stopping:
                if a.linger_seconds and not has_arrived and outcome is Outcome.COMPLETED:
                    has_arrived = True
                    self._report(Arrived, t)
                    continue
                self._report(Ended, t, outcome=outcome)
                return
            state = train(state, t, sequence.values(t))
            t = self.step = t + 1
            self._count += 1
            key = sequence.key(t, a.signature)
            self.on_trained(key)
            self.unsaved.append(key)

    def _save(self, key: str, step: int, state: str) -> Iterator[None]:
        """What was not reported counts as unsaved: nobody knows of it."""
        data = json.dumps({"state": state}).encode()
        digest = hashlib.sha256(state.encode()).hexdigest()
        manifest, existed = self.store.write_checkpoint(
            key=key,
            step=step,
            chunks=[data],
            state_digest=digest,
            fingerprint=FINGERPRINT,
            chain=self.assignment.chain,
        )
        yield
        self._report(
            CheckpointSaved,
            step,
            key=key,
            size=len(data),
            state_digest=digest,
            copy_seconds=0,
            write_seconds=0,
            existed=existed,
            differs=existed and manifest.state_digest != digest,
        )
        self.unsaved.clear()
        self.on_saved(key)
