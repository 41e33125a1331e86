"""Loads a checkpoint, and compares it with the trainer's resulting state.

No library's ``load_state_dict`` is trusted: some cast, some keep the former layout, and some leave
out what they do not know. A trial that continued from such a state would differ silently.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stage_runner.checkpoints.codec import (
    FORMAT_VERSION,
    CodecError,
    decode,
    find_format,
    take_apart,
)
from stage_runner.checkpoints.digest import leaf_digests, state_digest, tell_differences
from stage_runner.metrics import InvalidTrainer
from stage_runner.trainer import Trainer


class NotRestored(InvalidTrainer):
    """The trainer does not equal the saved one. The message is one line that names the
    difference.
    """


def restore(trainer: Trainer, read: Callable[[], bytes], *, digest: str) -> None:
    """Load the checkpoint that ``read`` returns, and compare the result with ``digest``.

    ``digest`` is that of the saved state. The comparison costs one hash of the state; only if it
    differs is the checkpoint read again, to name the difference. Checkpoints of an earlier format
    lack some of what is compared, so they are not compared. Raises CodecError, NotRestored,
    UnsavableState and what the trainer raises.
    """
    data = read()
    version = find_format(data)
    state = decode(data)
    del data  # memory may be scarce
    trainer.load_state_dict(state)
    del state
    if version == FORMAT_VERSION and state_digest(trainer.state_dict()) != digest:
        raise NotRestored(explain(trainer, decode(read())))


def explain(trainer: Trainer, saved: Any) -> str:
    """Describe how a trainer's state differs from the loaded one. Raises CodecError if it does
    not.
    """
    now, again = (leaf_digests(take_apart(trainer.state_dict())) for _ in range(2))
    if now != again:
        return f"state_dict() returns something else at each call: {tell_differences(now, again)}"
    told = tell_differences(leaf_digests(take_apart(saved)), now)
    if not told:
        raise CodecError("it is not what was saved")
    return f"load_state_dict() has not restored what state_dict() had returned: {told}"
