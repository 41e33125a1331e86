"""Wording of the reasons for tuners' decisions, shown with each trial."""

from __future__ import annotations

from hippo.model.words import counted


def ordinal(position: int) -> str:
    """1 -> "1st", 2 -> "2nd", 11 -> "11th"."""
    if position % 100 in (11, 12, 13):
        return f"{position}th"
    return f"{position}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(position % 10, 'th') }"


def best(count: int) -> str:
    """3 -> "the best 3"; 1 -> "the best one"."""
    return "the best one" if count == 1 else f"the best {count}"


def promoted(*, rung: int, step: int, position: int, of: str, share: int, following: int) -> str:
    """Reason for a promotion: "rung 1 (30 steps): 2nd of 9, the best 3 go on to 90"."""
    go = "goes" if share == 1 else "go"
    place = f"{ordinal(position)} of {of}, {best(share)} {go} on to {following}"
    return f"rung {rung} ({counted(step, 'step')}): {place}"


def stopped(*, step: int, position: int, size: int, share: int) -> str:
    """Reason for a stop at a rung: "not among the best 3 of 9 at step 30 (5th)"."""
    among = "the best" if share == 1 else f"among {best(share)}"
    return f"not {among} of {size} at step {step} ({ordinal(position)})"


def behind(*, best: float, step: int, median: float, completed: int) -> str:
    """Reason for an early stop: "0.71 at best by step 40, behind 0.82, the median of ..."."""
    return (
        f"{best:g} at best by step {step}, behind {median:g}, the median of the averages of"
        f" {counted(completed, 'completed trial')} by then"
    )


def replaced(*, step: int, position: int, size: int, count: int) -> str:
    """Reason for replacing a member: "among the worst 2 of 8 at step 40 (7th)"."""
    among = "the worst one" if count == 1 else f"among the worst {count}"
    return f"{among} of {size} at step {step} ({ordinal(position)})"


STUDY_OVER = "the study is over: "
STUDY_ENDED = "the study ended: "
"""Prefixes of stop reasons that are no verdict on the trial, because its study had ended.
Stored."""


def left_over(*, step: int, position: int, size: int, share: int, eta: int) -> str:
    """Reason for stopping a paused trial: "the study is over: 5th of 9 at step 30, ..."."""
    among = f"not among {best(share)}" if share else f"fewer than {eta} to choose from"
    return f"{STUDY_OVER}{ordinal(position)} of {size} at step {step}, {among}"
