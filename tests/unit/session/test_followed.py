"""Which decisions of another run may be made again."""

from __future__ import annotations

from typing import Any

from hippo.protocol.decisions import Decision
from hippo.session.followed import has_other_trials


def suggest(trial: int, lr: float, **fields: Any) -> Decision:
    return Decision(
        index=trial,
        kind="suggest",
        trial=trial,
        steps=3,
        hyperparameters={"lr": lr},
        reason="drawn",
        **fields,
    )


def test_what_was_drawn_must_begin_as_what_is_followed() -> None:
    followed = [suggest(0, 0.1), suggest(1, 0.2), suggest(2, 0.3, seed=4)]
    assert not has_other_trials([], followed)
    assert not has_other_trials(followed[:1], followed)
    assert not has_other_trials(followed, followed)
    assert has_other_trials([suggest(0, 0.2)], followed)
    assert has_other_trials([*followed[:2], suggest(2, 0.4)], followed)
    replicate = suggest(2, 0.1, seed=1)  # of its own best trial: the engine's, not drawn
    assert not has_other_trials([*followed[:2], replicate], followed)
