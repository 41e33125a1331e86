"""In which order commands of many events are carried out."""

from __future__ import annotations

from hippo.engine.commands import Command, DeleteCheckpoint, Launch, Notify, Record, Steer
from hippo.kube.reconciler.executor import gathered
from hippo.protocol.assignments import Assignment, Control, Route, TrainerCall
from hippo.protocol.decisions import Decision

ROUTE = Route(hyperparameters={}, steps=4, stop_at=4)


def launch(chain: str) -> Launch:
    trainer = TrainerCall(entrypoint="trainer:Trainer")
    return Launch(Assignment(chain=chain, signature="", trainer=trainer, route=ROUTE), "a")


def steer(chain: str) -> Steer:
    return Steer(Control(chain=chain, version=1, route=ROUTE))


def record(index: int) -> Record:
    return Record("a", Decision(index=index, kind="stop", trial=0, steps=0, reason="told to"))


def test_chains_are_launched_together_after_all_that_was_decided() -> None:
    commands: list[Command] = [record(0), launch("x"), record(1), Notify("so"), launch("y")]
    decided = [record(0), record(1), Notify("so")]
    assert gathered(commands) == [*decided, launch("x"), launch("y")]


def test_checkpoints_are_deleted_last() -> None:
    deletion = DeleteCheckpoint("key", 4)
    assert gathered([deletion, launch("x"), record(0)]) == [record(0), launch("x"), deletion]


def test_a_chain_is_launched_before_it_is_steered() -> None:
    """Others are steered before anything is launched: nobody waits for pods to be created."""
    commands: list[Command] = [launch("x"), steer("z"), steer("x"), launch("y")]
    assert gathered(commands) == [steer("z"), launch("x"), steer("x"), launch("y")]
