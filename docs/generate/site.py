"""Writes what the site is built from: all pages at their places in the repository, the pages that
are made from code, and a page for each other file that pages lead to, so that links stay as they
are.

    python -m docs.generate.site build/site-source
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from docs.generate.crds import PAGE as CRDS
from docs.generate.crds import render_crds
from docs.generate.lifecycles import render_all
from docs.generate.places import ROOT

FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\(\s*)([^)\s]+)(\s*\))")
_ITEM = re.compile(r"( *)([-*]|\d+\.) +")
_PICTURES = {".png", ".svg"}
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".json": "json"}
_SKIPPED = (".github/",)

API = {
    "docs/reference/trainers.md": (
        "Trainers",
        "What you write. How to write it: [trainers.md](../trainers.md).",
        ["stage_runner.trainer.Trainer", "stage_runner.torch_trainer.TorchTrainer"],
    ),
    "docs/reference/client.md": (
        "Client",
        "For a program of yours that asks for trials: [external studies](../studies.md).",
        ["hippo.client"],
    ),
}
"""Pages of the API: title, introduction, and what is shown of the code."""


def main() -> None:
    (target,) = sys.argv[1:]
    write(Path(target))


def write(target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    pages = [name for name in _list_files() if name.endswith(".md")]
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in pages}
    texts |= {name: text for name, text in render_all().items() if name.endswith(".md")}
    texts[CRDS] = render_crds()
    texts |= {name: _render_api(*parts) for name, parts in API.items()}
    linked: set[str] = set()
    for name, text in texts.items():
        _put(target, name, adapt(text, lambda link, name=name: _lead(name, link, linked)))
    for name in sorted(linked):
        _show(target, name, texts)
    for name in _list_files():
        if PurePosixPath(name).suffix in _PICTURES:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    shutil.copy(ROOT / "docs/generate/worker.js", target / "worker.js")


def adapt(text: str, lead: Callable[[str], str]) -> str:
    """The same for Python-Markdown, which wants an empty line before a list and four columns for
    what belongs to an item; with the links that ``lead`` gives.
    """
    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [_adapt_prose(text[end : fence.start()], lead), fence.group()]
        end = fence.end()
    return "".join([*parts, _adapt_prose(text[end:], lead)])


def _adapt_prose(text: str, lead: Callable[[str], str]) -> str:
    text = LINK.sub(lambda match: match.group(1) + lead(match.group(2)) + match.group(3), text)
    lines: list[str] = []
    indent = 0  # of what belongs to the item above; 0 outside of lists
    for line in text.split("\n"):
        item = _ITEM.match(line)
        if item and (not item.group(1) or indent):
            if not indent and lines and lines[-1].strip():
                lines.append("")
            indent = indent if item.group(1) else len(item.group(0))
        elif line.strip() and not line.startswith(" " * min(indent, 2)):
            indent = 0
        if indent and line.startswith(" " * indent):
            line = " " * (4 - min(indent, 4)) + line
        lines.append(line)
    return "\n".join(lines)


def _list_files() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names = sorted(set(done.stdout.splitlines()))
    return [name for name in names if (ROOT / name).is_file() and not name.startswith(_SKIPPED)]


def _render_api(title: str, introduction: str, names: list[str]) -> str:
    shown = "".join(f"\n::: {name}\n" for name in names)
    return f"# {title}\n\n{introduction}\n{shown}"


def _lead(page: str, link: str, linked: set[str]) -> str:
    """Where a link leads on the site; what is to be shown for it is added to ``linked``."""
    target, hash_sign, anchor = link.partition("#")
    if re.match(r"[a-z]+:", link) or not target:
        return link
    path = (ROOT / page).parent.joinpath(target).resolve()
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        if (path / "README.md").is_file():
            return f"{target.rstrip('/')}/README.md"
        linked.add(name)
        return f"{target.rstrip('/')}/index.md"
    if path.suffix in {".md", *_PICTURES}:
        return link
    linked.add(name)
    return f"{target}.md{hash_sign}{anchor}"


def _show(target: Path, name: str, texts: dict[str, str]) -> None:
    """A page with a file of the repository, or with the names of those in a folder."""
    path = ROOT / name
    if path.is_dir():
        files = [file for file in _list_files() if PurePosixPath(file).parent.as_posix() == name]
        shown = "\n".join(
            f"- [{PurePosixPath(file).name}]({PurePosixPath(file).name}.md)" for file in files
        )
        _put(target, f"{name}/index.md", f"# {name}\n\n{shown}\n")
        for file in files:
            if not file.endswith(".md"):
                _show(target, file, texts)
        return
    text = path.read_text(encoding="utf-8")
    fence = "`" * 6
    language = _LANGUAGES.get(path.suffix, "text")
    _put(target, f"{name}.md", f"# {name}\n\n{fence}{language}\n{text.rstrip()}\n{fence}\n")


def _put(target: Path, name: str, text: str) -> None:
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    (target / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
