"""Settings from environment variables, files and URLs.

They are stripped of the line break that ``echo`` leaves, refused if no setting can contain them,
and never quoted where they may be secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from hippo.model.foreign import as_line
from hippo.store.blobs import StoreError

_USER_INFO = re.compile(r"^([\w+.-]*:)?.*@", re.DOTALL)  # up to the last @: keys may contain it
_QUERY = re.compile(r"[?#].*", re.DOTALL)


def read_text(environment: Mapping[str, str], name: str) -> str | None:
    """Returns the value of a variable; None if it is unset or empty. Raises StoreError."""
    value = environment.get(name, "").strip()
    return check_text(name, value) if value else None


def read_first(environment: Mapping[str, str], *names: str) -> tuple[str, str] | None:
    """Returns name and value of the first of these variables that is set. Raises StoreError."""
    for name in names:
        value = read_text(environment, name)
        if value is not None:
            return name, value
    return None


def check_text(name: str, value: str) -> str:
    """Returns a value that fits on one line.

    Raises StoreError, which names the setting without quoting the value.
    """
    if not value.isprintable():
        raise StoreError(f"{name} holds {_describe(value)}: remove it")
    return value


def check_word(name: str, value: str) -> str:
    """Returns a value that fits in an HTTP header: visible ASCII. Raises StoreError."""
    wrong = next((c for c in value if not "!" <= c <= "~"), None)
    if wrong is not None:
        raise StoreError(f"{name} holds {_describe(wrong)}: remove it")
    return value


def mask(url: str) -> str:
    """Returns a URL safe to print, without the parts where keys are put by mistake."""
    return as_line(_QUERY.sub("?...", _USER_INFO.sub(r"\1//...@", url)))


def read_if_there(path: str) -> bytes | None:
    """Returns the content of a file; None only if nothing has that name. Raises OSError."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        if os.path.lexists(path):  # a dangling link
            raise
        return None


def explain_file(error: OSError) -> str:
    """Returns why a file cannot be read, as words that follow its name."""
    match error:
        case FileNotFoundError():
            return "cannot be read: there is no file"
        case IsADirectoryError():
            return "is a directory, not a file"
        case _:
            return f"cannot be read: {(error.strerror or type(error).__name__).lower()}"


def _describe(text: str) -> str:
    """Describes the first invalid character; the text around it may be secret."""
    wrong = next((c for c in text if not c.isprintable()), text[0])
    if wrong in "\r\n":
        return "a line break"
    if wrong.isspace():
        return "white space"
    return "a control character" if wrong < " " or wrong == "\x7f" else "a character beyond ASCII"
