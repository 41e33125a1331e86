"""Searching that is too long for every change: model checking, a day of churn, long fuzzing.

    python -m tests.nightly [--part 3/8] [--seed N] [PIECE ...]     (or: make nightly PART=3/8)

The night is cut into pieces, each a run of pytest with a seed of its own. What a piece has come to
is kept in build/nightly, together with the code that it ran on; a second call goes on with what is
missing or has failed. The figures go into docs/reliability.md.
"""
