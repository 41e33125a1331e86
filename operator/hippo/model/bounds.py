"""Every bound on what users write, in one place.

Each is far above what people need, and low enough that a document within all of them takes its
reader a few seconds and a few hundred megabytes at most, even if it is hostile. Everything is
counted before anything is expanded. Both the models and the CRDs are made from these bounds.
"""

from __future__ import annotations

import sys
from typing import Final

# -- documents -------------------------------------------------------------------------------------

MAX_DOCUMENT_BYTES: Final = 4 * 2**20
"""Bytes of a file, and characters of a document's text once its aliases are expanded. API servers
accept 1.5 MiB."""
MAX_NODES: Final = 200_000
"""Values and keys of a document, with its aliases expanded."""
MAX_NESTING: Final = 128
"""Nesting depth of mappings and lists."""
MAX_LABEL: Final = 1_024
"""Characters of a name (of a metric, an image, an entry point) and of a version."""
MAX_PROBLEMS: Final = 100
"""Problems reported for one document."""

# -- numbers ---------------------------------------------------------------------------------------

LARGEST_INTEGER: Final = 2**53
"""The largest integer up to which every integer is a double."""
LARGEST_NUMBER: Final = sys.float_info.max
"""The largest finite double."""
MAX_DAYS: Final = 36_500
"""Longest duration: a hundred years."""
MAX_DURATION_CHARACTERS: Final = 64

# -- sequences -------------------------------------------------------------------------------------

MAX_STEPS: Final = 10**12
"""Steps of the longest sequence."""
MAX_DEPTH: Final = 32
"""Nesting depth of lists and schedules."""
MAX_POWER: Final = 100
"""Largest exponent of a polynomial schedule."""
MAX_PIECES: Final = 10_000
"""Pieces of one hyper-parameter; with more, planning would take time proportional to the steps."""
MAX_SEQUENCE_PIECES: Final = 200_000
"""Pieces of all hyper-parameters of one trial: 60 MB, and a few seconds of work."""

# -- spaces ----------------------------------------------------------------------------------------

MAX_OPTIONS: Final = 20_000
"""Choices in all lists of a space."""
MAX_DIMENSIONS: Final = 1_000
"""Hyper-parameters of a space, and also its domains with more than one value."""
MAX_SPACE_PIECES: Final = 2_000_000
"""Pieces of all choices, including the representatives of their ranges (``budget``). One takes
about 7 microseconds and 300 bytes."""

# -- trials ----------------------------------------------------------------------------------------

MAX_TRIALS: Final = 100_000
"""Trials of a study."""
MAX_TRIAL_PIECES: Final = 4_000_000
"""Pieces of all trials of a study where each trial may have its own."""
MAX_ASKED_PIECES: Final = 1_000_000
"""Pieces of all trials of an external study, equal schedules counted once: 300 MB."""
MAX_DRAWN_PIECES: Final = 300_000
"""Pieces of all candidates of one prefix-first draw."""
MAX_INDEX: Final = 10**9 - 1
"""Largest index of a trial, a decision, or a request: nine digits, as in record names."""
MAX_MARKS: Final = 1_000
"""Steps at which a tuner may evaluate one trial."""
MAX_REPLICATES: Final = 1_000
"""Replicates per trial, and also the number of trials that are replicated."""
MAX_REPLICATED: Final = 10_000
"""Replicates of a study."""

# -- workers ---------------------------------------------------------------------------------------

MAX_PARALLELISM: Final = 10_000
MAX_PRIORITY: Final = 10**9
MAX_RETRIES: Final = 1_000
MAX_THREADS: Final = 4_096
MAX_WORKER_HOURS: Final = 10**9

# -- tuners ----------------------------------------------------------------------------------------

MAX_CANDIDATES: Final = 256
"""Candidate points of a prefix-first draw, for each trial."""
MAX_LEVELS: Final = 10_000
MAX_WEIGHT: Final = 1_000
MAX_ETA: Final = 1_000
MAX_POPULATION: Final = 10_000
MAX_FACTORS: Final = 100
MAX_SAMPLES: Final = 1_000
"""Points that one of Optuna's samplers draws or compares at a time."""
MAX_SAMPLER_NUMBERS: Final = 30_000_000
"""Numbers in the largest array of one of Optuna's samplers: 240 MB."""
MAX_GP_TRIALS: Final = 2_000
"""Trials of a Gaussian process, whose time grows with their cube."""

# -- memory ----------------------------------------------------------------------------------------

MAX_INTERNED_BYTES: Final = 64 * 2**20
"""Estimated bytes of interned schedules."""
