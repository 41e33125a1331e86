"""Edits of study files while they are trained: priority, suspend, budget and the like.

Changes of editable fields take effect at once. Any other change is refused in one line, and the
study continues unchanged; the line is not repeated until the file changes again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hippo.model import InvalidSpec, Study, editable_changes, load_studies

Stamp = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class Edit:
    """The study as its file now defines it, or the reason why that cannot be used."""

    study: Study
    changed: tuple[str, ...] = ()  # fields of spec
    problem: str | None = None  # one line


@dataclass(slots=True)
class StudyFiles:
    """The files from which running studies were read."""

    paths: Iterable[Path]
    _stamps: dict[Path, Stamp] = field(init=False)

    def __post_init__(self) -> None:
        self._stamps = {path: _stamp(path) for path in self.paths}

    def read_edits(self, running: Iterable[Study]) -> Iterator[Edit]:
        """Yield edits since the last call. A missing file changes nothing."""
        studies = {(study.namespace, study.name): study for study in running}
        if not studies:
            return
        for path, seen in self._stamps.items():
            stamp = _stamp(path)
            if stamp in (None, seen):
                continue
            self._stamps[path] = stamp
            try:
                written = load_studies([path])
            except InvalidSpec as error:
                first = next(iter(studies.values()))
                yield Edit(first, problem=" ".join(str(error).splitlines()))
                continue
            for study in written:
                before = studies.get((study.namespace, study.name))
                if before is not None:
                    yield from _compare(before, study)


def _compare(before: Study, study: Study) -> Iterator[Edit]:
    try:
        changed = editable_changes(before, study)
    except InvalidSpec as error:
        yield Edit(before, problem="; ".join(str(error).splitlines()))
        return
    if changed:
        yield Edit(study, changed)


def _stamp(path: Path) -> Stamp:
    """Return a value that differs between versions of a file; None if the file cannot be read."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
