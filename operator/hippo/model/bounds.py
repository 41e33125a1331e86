"""Every bound of what users write, in one place.

Each is far above what people need, and low enough that a document which keeps all of them costs its
reader some seconds and some hundred megabytes at most, however it was made. Everything is counted
before anything is expanded. Models and CRDs are both made from these.
"""

from __future__ import annotations

import sys
from typing import Final

# -- documents -------------------------------------------------------------------------------------

MAX_DOCUMENT_BYTES: Final = 4 * 2**20
"""A file, and the text in a document once its aliases are expanded. API servers take 1.5 MiB."""
MAX_NODES: Final = 200_000
"""Values and keys of a document, its aliases expanded."""
MAX_NESTING: Final = 128
"""Levels of mappings and lists within each other."""
MAX_LABEL: Final = 1_024
"""Characters of a name: of a metric, an image, an entry point; and of a version."""
MAX_PROBLEMS: Final = 100
"""Lines that say what is wrong with one document."""

# -- numbers ---------------------------------------------------------------------------------------

LARGEST_INTEGER: Final = 2**53
"""Beyond it, not every integer is a double."""
LARGEST_NUMBER: Final = sys.float_info.max
"""The largest finite double."""
MAX_DAYS: Final = 36_500
"""Longest duration: a hundred years."""
MAX_DURATION_CHARACTERS: Final = 64

# -- sequences -------------------------------------------------------------------------------------

MAX_STEPS: Final = 10**12
"""Longest sequence."""
MAX_DEPTH: Final = 32
"""Levels of lists and schedules within each other."""
MAX_POWER: Final = 100
"""Exponent of a polynomial schedule."""
MAX_PIECES: Final = 10_000
"""Pieces of one hyper-parameter; beyond it, planning would cost time by the step."""
MAX_SEQUENCE_PIECES: Final = 200_000
"""Pieces of all hyper-parameters of a trial together: 60 MB, and some seconds to work out."""

# -- spaces ----------------------------------------------------------------------------------------

MAX_OPTIONS: Final = 20_000
"""Choices of all lists of a space together."""
MAX_DIMENSIONS: Final = 1_000
"""Hyper-parameters of a space, and places where it leaves something to choose."""
MAX_SPACE_PIECES: Final = 2_000_000
"""Pieces of all choices together, each with the points that stand for its ranges (``budget``). One
takes about 7 microseconds and 300 bytes."""

# -- trials ----------------------------------------------------------------------------------------

MAX_TRIALS: Final = 100_000
"""Trials of a study."""
MAX_TRIAL_PIECES: Final = 4_000_000
"""Pieces of all trials of a study together, where each may have its own."""
MAX_ASKED_PIECES: Final = 1_000_000
"""Pieces of all trials of an external study together, equal schedules counted once: 300 MB."""
MAX_DRAWN_PIECES: Final = 300_000
"""Pieces of all candidates of a prefix-first draw together."""
MAX_INDEX: Final = 10**9 - 1
"""Number of a trial, a decision, or a request: nine digits, as in names of a store's records."""
MAX_MARKS: Final = 1_000
"""Times that a tuner may look at a trial on its way; each is an evaluation."""
MAX_REPLICATES: Final = 1_000
"""Seeds for each of the best trials, and how many these are."""
MAX_REPLICATED: Final = 10_000
"""Replicates of a study in all."""

# -- workers ---------------------------------------------------------------------------------------

MAX_PARALLELISM: Final = 10_000
MAX_PRIORITY: Final = 10**9
MAX_RETRIES: Final = 1_000
MAX_THREADS: Final = 4_096
MAX_WORKER_HOURS: Final = 10**9

# -- tuners ----------------------------------------------------------------------------------------

MAX_CANDIDATES: Final = 256
"""Points that prefix-first draws choose from, for each trial."""
MAX_LEVELS: Final = 10_000
MAX_WEIGHT: Final = 1_000
MAX_ETA: Final = 1_000
MAX_POPULATION: Final = 10_000
MAX_FACTORS: Final = 100
MAX_SAMPLES: Final = 1_000
"""Points that a sampler of Optuna's draws or compares at a time."""
MAX_SAMPLER_NUMBERS: Final = 30_000_000
"""Numbers that a sampler of Optuna's holds in one array: 240 MB."""
MAX_GP_TRIALS: Final = 2_000
"""Trials under a Gaussian process, whose time grows with their cube."""

# -- memory ----------------------------------------------------------------------------------------

MAX_INTERNED_BYTES: Final = 64 * 2**20
"""Estimated bytes of schedules that are kept for when they are asked for again."""
