"""Reads studies from YAML 1.2 files: ``1e-5`` is a number, ``24:00`` is text.

Refuses whatever kubectl would read differently (see ``yaml_1_1``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from hippo.model.bounds import MAX_DOCUMENT_BYTES
from hippo.model.composing import Refused
from hippo.model.errors import InvalidSpec
from hippo.model.sequences.numbers import shorten
from hippo.model.study import Study, parse_study
from hippo.model.words import closest
from hippo.model.yaml_1_1 import StrictComposer, StrictConstructor, find_breaks

STANDARD_INPUT = Path("-")


def load_studies(paths: Iterable[Path]) -> list[Study]:
    """Returns all studies of the given files, each of which may hold several documents.

    The path ``-`` means standard input. Raises InvalidSpec with the problems of all files; each
    line begins with the file's path.
    """
    errors: list[tuple[str, str]] = []
    studies: list[Study] = []
    origins: dict[str, Path] = {}
    for path in paths:
        try:
            documents = _documents(path)
        except InvalidSpec as error:
            errors += error.errors
            continue
        name = "standard input" if path == STANDARD_INPUT else path
        for number, document in enumerate(documents, 1):
            place = f"{name}: " if len(documents) == 1 else f"{name}: document {number}: "
            try:
                study = parse_study(document)
            except InvalidSpec as error:
                errors += [(_placed(place, at), message) for at, message in error.errors]
                continue
            earlier = origins.setdefault(study.name, path)
            if len(origins) == len(studies):
                message = f"{study.name!r} is also the name of a study in {earlier}"
                errors.append((f"{place}metadata.name", message))
            else:
                studies.append(study)
    if errors:
        raise InvalidSpec(errors)
    return studies


def _placed(place: str, path: str) -> str:
    return place + path if path else place.removesuffix(": ")


def _documents(path: Path) -> list[Any]:
    """Returns the non-empty documents of a file; raises InvalidSpec if there are none."""
    if path == STANDARD_INPUT:
        path, text = Path("standard input"), _read_standard_input()
    else:
        text = _read_file(path)
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer, yaml.Constructor = StrictComposer, StrictConstructor
    try:
        loaded = list(yaml.load_all(text))
    except Refused as error:
        raise InvalidSpec.at(_marked(path, error, column=True), _problem(error)) from None
    except MarkedYAMLError as error:
        raise InvalidSpec.at(_marked(path, error), f"is not YAML: {_problem(error)}") from None
    except (YAMLError, ValueError) as error:
        message = " ".join(str(error).split())
        raise InvalidSpec.at(str(path), f"is not YAML: {message}") from None
    except RecursionError:
        raise InvalidSpec.at(str(path), "is nested too deeply") from None
    composer: StrictComposer = yaml.composer
    constructor: StrictConstructor = yaml.constructor
    differences = composer.differences + constructor.differences
    differences += find_breaks(text, composer.quoted)
    if differences:
        raise InvalidSpec((f"{path}:{line}", message) for line, message in sorted(differences))
    documents = [document for document in loaded if document is not None]
    if not documents:
        raise InvalidSpec.at(str(path), "is empty")
    return documents


def _read_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return _decode(file.read(MAX_DOCUMENT_BYTES + 1), str(path))
    except FileNotFoundError:
        raise InvalidSpec.at(str(path), f"no such file{_alike(path)}") from None
    except IsADirectoryError:
        raise InvalidSpec.at(str(path), "is a directory, not a file") from None
    except OSError as error:
        raise InvalidSpec.at(str(path), f"cannot be read: {error.strerror}") from None


@cache
def _read_standard_input() -> str:
    """Reads standard input once; later calls return the same text."""
    if sys.stdin is None:
        raise InvalidSpec.at("standard input", "is closed")
    return _decode(sys.stdin.buffer.read(MAX_DOCUMENT_BYTES + 1), "standard input")


def _decode(data: bytes, name: str) -> str:
    if len(data) > MAX_DOCUMENT_BYTES:
        raise InvalidSpec.at(
            name, f"is larger than {MAX_DOCUMENT_BYTES:,} bytes: split it into several files"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidSpec.at(name, f"is not UTF-8 text (byte {error.start})") from None


def _alike(path: Path) -> str:
    """Returns a hint at the study file in the same folder that was probably meant, or ""."""
    try:
        known = {file.stem: file.name for file in path.parent.glob("*.y*ml")}
    except OSError:
        return ""
    found = closest(path.stem, known)
    return f"; did you mean {path.with_name(known[found])}?" if found is not None else ""


def _marked(path: Path, error: MarkedYAMLError, *, column: bool = False) -> str:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return str(path)
    return f"{path}:{mark.line + 1}" + (f":{mark.column + 1}" if column else "")


def _problem(error: MarkedYAMLError) -> str:
    parts = [error.context, error.problem]
    return shorten(" ".join(", ".join(part for part in parts if part).split()), 500)
