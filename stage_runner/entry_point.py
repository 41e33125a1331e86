"""Loads the trainer class that an entry point, ``module:Class``, names."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path

from stage_runner.failures import describe
from stage_runner.randomness import seed_imports
from stage_runner.trainer import Trainer


class EntryPointError(Exception):
    """The entry point names no trainer class. The message is one line."""


def load_trainer(entrypoint: str, path: Path) -> type[Trainer]:
    """Import the class; modules below ``path`` take precedence.

    Raises EntryPointError; its ``__cause__`` is the exception that the import itself raised, if
    any.
    """
    module_name, colon, class_name = entrypoint.partition(":")
    names = [*module_name.split("."), class_name]
    if not colon or not all(name.isidentifier() for name in names):
        raise EntryPointError(f"{entrypoint}: an entry point is module:Class")
    add_to_path(path)
    if module_name not in sys.modules:
        seed_imports()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            modules = [file.stem for file in path.glob("*.py")]
            raise EntryPointError(
                f"{entrypoint}: no module named {error.name!r} below {path}"
                + _suggest(error.name, modules)
            ) from None
        raise EntryPointError(f"{entrypoint}: {describe(error, path)}") from error
    except BaseException as error:
        raise EntryPointError(f"{entrypoint}: {describe(error, path)}") from error
    found = getattr(module, class_name, None)
    if found is None:
        trainers = [name for name, value in vars(module).items() if _is_trainer(value)]
        others = [name for name, value in vars(module).items() if isinstance(value, type)]
        suggestion = _suggest(class_name, trainers or others)
        raise EntryPointError(f"{entrypoint}: {module_name} has no {class_name!r}{suggestion}")
    if not isinstance(found, type) or not issubclass(found, Trainer):
        raise EntryPointError(f"{entrypoint}: {class_name} is no subclass of stage_runner.Trainer")
    if inspect.isabstract(found):
        missing = ", ".join(f"{name}()" for name in sorted(found.__abstractmethods__))
        raise EntryPointError(f"{entrypoint}: {class_name} does not define {missing}")
    return found


def add_to_path(path: Path) -> None:
    """Make modules below ``path`` importable, with precedence over others. Idempotent."""
    text = str(path)
    if text not in sys.path:
        sys.path.insert(0, text)


def _is_trainer(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Trainer) and not inspect.isabstract(value)


def _suggest(name: str, candidates: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(candidates), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
