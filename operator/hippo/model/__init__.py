"""The study model: sequences, spaces, studies, and signatures, in canonical form."""

from hippo.model.algorithms import (
    AlgorithmSettings,
    Asha,
    DrawingSettings,
    External,
    Grid,
    Hyperband,
    Median,
    Optuna,
    Pbt,
    PrefixFirst,
    Random,
    Sha,
)
from hippo.model.documents import load_studies
from hippo.model.errors import InvalidSpec
from hippo.model.mutability import editable_changes
from hippo.model.sequences.numbers import Value, canonical_json
from hippo.model.sequences.sequence import Sequence
from hippo.model.signature import signature, signature_document
from hippo.model.spaces.perturbing import Explorer
from hippo.model.spaces.space import Space
from hippo.model.study import (
    Budget,
    Checkpoints,
    Metadata,
    Objective,
    Study,
    StudySpec,
    TrainerSpec,
    parse_study,
)

__all__ = [
    "AlgorithmSettings",
    "Asha",
    "Budget",
    "Checkpoints",
    "DrawingSettings",
    "Explorer",
    "External",
    "Grid",
    "Hyperband",
    "InvalidSpec",
    "Median",
    "Metadata",
    "Objective",
    "Optuna",
    "Pbt",
    "PrefixFirst",
    "Random",
    "Sequence",
    "Sha",
    "Space",
    "Study",
    "StudySpec",
    "TrainerSpec",
    "Value",
    "canonical_json",
    "editable_changes",
    "load_studies",
    "parse_study",
    "signature",
    "signature_document",
]
