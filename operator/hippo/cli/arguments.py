"""Arguments and options shared by commands, and the studies and stores that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hippo.local import LocatedStudy
from hippo.model import InvalidSpec, load_studies
from hippo.model.documents import STANDARD_INPUT
from hippo.model.study import DEFAULT_NAMESPACE, check_namespace
from hippo.model.words import did_you_mean
from hippo.store import (
    StoreError,
    find_studies,
    list_study_names,
    locate_store,
    open_blobs,
)
from hippo.views.stored_study import Named, Store

DEFAULT_STORE = ".hippo"

StudiesArgument = Annotated[
    list[Path],
    typer.Argument(help="Study files (YAML); - is standard input.", show_default=False),
]
StudyArgument = Annotated[
    str,
    typer.Argument(help="A study's file (- is standard input) or name.", show_default=False),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="HIPPO_STORE",
        help="Folder or s3://bucket/prefix. Default: .hippo beside the study's file, or in the"
        " current folder.",
        show_default=False,
    ),
]
StoreArgument = Annotated[
    str | None,
    typer.Argument(
        envvar="HIPPO_STORE",
        help="Folder or URL of the store. Default: .hippo in the current folder.",
        show_default=False,
    ),
]
NamespaceOption = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", help="Only this namespace. Default: all.", show_default=False
    ),
]
NamedNamespaceOption = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        help="Namespace of a study given by name. Default: default.",
        show_default=False,
    ),
]


def locate_studies(paths: list[Path]) -> list[LocatedStudy]:
    """Read all studies of the files; ``-`` is standard input, with the trainer in this folder.

    Raises InvalidSpec, also if two of them have the same name.
    """
    located = [
        LocatedStudy(study, _place(path)) for path in paths for study in load_studies([path])
    ]
    seen: set[tuple[str, str]] = set()
    for item in located:
        identity = (item.study.namespace, item.study.name)
        if identity in seen:
            raise InvalidSpec.at("metadata.name", f"two studies are named {item.study.name!r}")
        seen.add(identity)
    return located


def is_file_name(study: str) -> bool:
    """Return whether the argument is a study's file rather than its name."""
    path = Path(study)
    return path == STANDARD_INPUT or path.suffix in (".yaml", ".yml") or path.is_file()


def _place(path: Path) -> Path:
    return Path.cwd() / "standard input" if path == STANDARD_INPUT else path.resolve()


def store_beside(path: Path) -> str:
    """Return the default store of a file's studies."""
    return str(_place(path).parent / DEFAULT_STORE)


def open_store(url: str | None) -> Store:
    """Open the store at a URL; None: the one in the current folder. Raises StoreError."""
    url = locate_store(url if url is not None else DEFAULT_STORE)
    if "://" not in url and not Path(url).exists() and not Path(url).is_symlink():
        raise StoreError(f"there is no store at {url}: name another one, or run the study first")
    return Store(url, open_blobs(url))


def find_named(study: str, store: str | None, namespace: str | None) -> Named:
    """Find a study in the store by its file or its name. Raises InvalidSpec, StoreError."""
    path = Path(study)
    if is_file_name(study):
        name, given = _read_identity(path)
        if namespace not in (None, given):
            raise InvalidSpec.at("metadata.namespace", f"is {given}, not {namespace}: omit -n")
        opened = open_store(store if store is not None else store_beside(path))
    else:
        name, given = study, read_namespace(namespace) or DEFAULT_NAMESPACE
        opened = open_store(store)
    found = find_studies(opened.blobs, name, given)
    if not found:
        others = sorted({item.namespace for item in find_studies(opened.blobs, name)})
        advice = f"there is one in {', '.join(others)}: say -n" if others else "run it first"
        if not others:
            advice += did_you_mean(name, list_study_names(opened.blobs, given))
        raise StoreError(f"the store {opened.url} has no study {name!r} in {given}: {advice}")
    return Named(name, given, opened, found)


def read_namespace(option: str | None) -> str | None:
    """Check the value of ``-n``. Raises InvalidSpec."""
    try:
        return option if option is None else check_namespace(option)
    except InvalidSpec as error:
        raise InvalidSpec.at("--namespace", error.errors[0][1]) from None


def _read_identity(path: Path) -> tuple[str, str]:
    located = locate_studies([path])
    if len(located) != 1:
        shown = "standard input" if path == STANDARD_INPUT else str(path)
        raise InvalidSpec.at(shown, "holds several studies: name one, and the --store")
    return located[0].study.name, located[0].study.namespace
