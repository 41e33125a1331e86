"""Studies in files: the folder of a trainer, and the signature that studies of one plan share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hippo.local.source_digest import digest_sources
from hippo.model import InvalidSpec, Study, signature_document


@dataclass(frozen=True, slots=True)
class LocatedStudy:
    """A study and its file; its trainer is imported from the file's folder."""

    study: Study
    file: Path  # absolute

    @property
    def folder(self) -> Path:
        return self.file.parent


def build_signature_document(studies: list[LocatedStudy], *, merge: bool) -> dict[str, Any]:
    """Return everything that results depend on besides the sequence, for studies of one plan.

    Raises InvalidSpec if the studies differ in their namespace or in such fields of their trainers,
    all of which it names.
    """
    documents = [
        signature_document(item.study.spec.trainer, digest_sources(item.folder)) for item in studies
    ]
    for item, document in zip(studies[1:], documents[1:], strict=True):
        if item.study.namespace != studies[0].study.namespace:
            raise InvalidSpec.at(
                "metadata.namespace",
                f"studies {studies[0].study.name} and {item.study.name} cannot share a plan: they"
                f" are of the namespaces {studies[0].study.namespace} and {item.study.namespace};"
                " run them one after the other",
            )
        names = _differing(documents[0], document)
        if names:
            raise InvalidSpec.at(
                "spec.trainer",
                f"studies {studies[0].study.name} and {item.study.name} cannot share a plan: their"
                f" {', '.join(names)} {'differs' if len(names) == 1 else 'differ'};"
                " run them one after the other",
            )
    document = dict(documents[0])
    if not merge:
        document["merge"] = False
    return document


def _differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the sorted fields in which two signature documents differ, including those of
    ``config``.
    """
    names = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    if "config" in names:
        at = names.index("config")
        mine, theirs = one.get("config", {}), other.get("config", {})
        names[at : at + 1] = [f"config.{name}" for name in _differing(mine, theirs)]
    return names
