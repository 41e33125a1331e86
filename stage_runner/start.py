"""Starting a chain: preconditions, the trainer, and the checkpoint that it loads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy

from hippo.protocol.assignments import TIMED_ASSIGNMENT_VERSION, Assignment
from hippo.protocol.records import Manifest
from hippo.protocol.routes import Course, InvalidRoute
from hippo.store import CorruptCheckpoint, PlanStore, StoreError
from stage_runner.checkpoints.codec import CodecError, NewerCheckpoint
from stage_runner.checkpoints.restoring import restore
from stage_runner.environment import choose_device
from stage_runner.fingerprint import describe_difference
from stage_runner.randomness import seed_generators
from stage_runner.trainer import Trainer, Value


class Refused(Exception):
    """The plan or the start checkpoint is from another kind of machine. The message is one line."""


def read_course(assignment: Assignment) -> Course:
    """Return the course of an assignment's route. Raises InvalidRoute, also for a newer format."""
    if assignment.format_version > TIMED_ASSIGNMENT_VERSION:
        raise InvalidRoute(
            f"the assignment has format {assignment.format_version}; this worker knows"
            f" {TIMED_ASSIGNMENT_VERSION}: use the same version of Hippo for both"
        )
    return Course(assignment.route)


def check_place(assignment: Assignment, fingerprint: dict[str, str]) -> None:
    """Raise Refused if the plan is strict and was begun under another fingerprint."""
    if assignment.fingerprint is not None and assignment.exactness == "strict":
        foreign = describe_difference(fingerprint, assignment.fingerprint)
        if foreign is not None:
            raise Refused(f"the plan was begun elsewhere: {foreign}")


def find_checkpoint(
    store: PlanStore, assignment: Assignment, key: str, fingerprint: dict[str, str]
) -> Manifest:
    """Return the manifest of the start checkpoint; ``key`` is the sequence's key at that step.

    Raises CorruptCheckpoint; Refused if another kind of machine made it and the plan is strict;
    StoreError.
    """
    step = assignment.start
    if assignment.start_key != key:
        raise CorruptCheckpoint(
            f"checkpoint {assignment.start_key} is not that of the sequence at step {step}"
        )
    manifest = store.read_manifest(key)
    if manifest.step != step:
        raise CorruptCheckpoint(f"checkpoint {key} is of step {manifest.step}, not of step {step}")
    foreign = describe_difference(fingerprint, manifest.fingerprint)
    if foreign is not None and assignment.exactness == "strict":
        raise Refused(
            f"checkpoint {key} was made elsewhere, and results would not be exact: {foreign}"
        )
    return manifest


def load_checkpoint(trainer: Trainer, manifest: Manifest, read: Callable[[], bytes]) -> None:
    """Load what ``read`` returns, and check that the trainer equals the saved one.

    Raises CorruptCheckpoint, StoreError, UnsavableState, NotRestored and whatever the trainer
    raises.
    """
    try:
        restore(trainer, read, digest=manifest.state_digest)
    except NewerCheckpoint as error:
        raise StoreError(f"checkpoint {manifest.key}: {error}") from None
    except CodecError as error:
        raise CorruptCheckpoint(f"checkpoint {manifest.key}: {error}") from None


def build_trainer(trainer_class: type[Trainer], *, seed: int) -> Trainer:
    """Construct a trainer ready for ``setup``: seed and device set, generators seeded."""
    device = choose_device()
    seed_generators("setup", seed)
    trainer = trainer_class()
    trainer.seed = seed
    trainer.device = device
    return trainer


def copy_values(values: Mapping[str, Value]) -> dict[str, Value]:
    """Copy values for a trainer that may modify them: later steps share the same objects."""
    return {
        name: deepcopy(value) if isinstance(value, list) else value
        for name, value in values.items()
    }
