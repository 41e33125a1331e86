"""Writes the generated pages of the repository; a test fails where one is not current."""

from __future__ import annotations

from docs.generate.lifecycles import render_all
from docs.generate.places import ROOT


def main() -> None:
    for path, text in render_all().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")


main()
