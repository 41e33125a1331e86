"""Checks a built site: every link and anchor within it leads somewhere, and no page loads a script,
a style, a font or a picture from elsewhere.

    python -m docs.generate.check build/site
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
HARMLESS = {"canonical", "next", "prev", "alternate"}
"""Links in a page's head that a browser does not follow by itself."""


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = {"", "__toc", "__drawer", "__search"}
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        name = LOADED.get(tag)
        if name in found and not HARMLESS & set(found.get("rel", "").split()):
            self.loaded.append(found[name])


def main() -> int:
    (folder,) = sys.argv[1:]
    faults = list(check(Path(folder).resolve()))
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    return 1 if faults else 0


def check(folder: Path) -> Iterator[str]:
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}
    if not pages:
        yield f"{folder} holds no page"
    for path, page in sorted(pages.items()):
        name = path.relative_to(folder)
        if name.name == "404.html":
            continue  # its links are absolute, for a server
        for link in {*page.links, *page.loaded}:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loaded and parts.scheme != "data":
                    yield f"{name}: loads {link}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target = target / "index.html"
            if not target.is_file():
                yield f"{name}: {link} leads nowhere"
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{name}: {link} has no such anchor"
    for sheet in folder.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        if "@import" in text or "url(http" in text or "url(//" in text:
            yield f"{sheet.relative_to(folder)}: loads something from elsewhere"


if __name__ == "__main__":
    sys.exit(main())
