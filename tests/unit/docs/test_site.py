"""The site: what it is made from, and the check of what comes out. `make docs` builds it."""

from __future__ import annotations

import re
from pathlib import Path

from docs.generate.check import check
from docs.generate.crds import PAGE as CRDS
from docs.generate.crds import render_crds
from docs.generate.places import ROOT
from docs.generate.site import API, adapt
from hippo.kube.crds.definitions import build_crds
from tests.unit.docs.pages import list_pages
from tests.unit.docs.test_pages import is_module


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    named = re.findall(r"^ +- .*: ([\w./-]+\.md)$|^  - .*: ([\w./-]+\.md)$", text, re.MULTILINE)
    shown = {one or other for one, other in named}
    asked = {page for page in list_pages() if page.startswith("docs/") or "/" not in page}
    assert shown >= asked
    assert shown - set(list_pages()) == {CRDS, *API}


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    assert not re.search(r"https?://|//\w+\.", text)
    assert re.search(r"^  font: false\b", text, re.MULTILINE)


def test_the_reference_has_every_field() -> None:
    text = render_crds()
    for definition in build_crds():
        schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for part in ("spec", "status"):
            for name in schema["properties"][part]["properties"]:
                assert f"`{part}.{name}`" in text
    assert "| **`spec.steps`** | integer, at least 1, at most 1,000,000,000,000 |" in text
    assert "`spec.space.*.choices[].cosine.initial`" in text
    assert len(text) < 100_000


def test_what_the_api_pages_show_exists() -> None:
    for _, _, names in API.values():
        assert names
        assert all(is_module(name) for name in names)


def test_lists_are_written_as_python_markdown_wants_them() -> None:
    text = "Text:\n- one\n  goes on\n\n      code\n- two\n  - inner\n\nText.\n1. one\n   goes on\n"
    assert adapt(text, str) == (
        "Text:\n\n- one\n    goes on\n\n        code\n- two\n    - inner\n\nText.\n\n1. one\n"
        "    goes on\n"
    )


def test_links_are_led_elsewhere_but_in_code() -> None:
    text = "[a](b.py)\n```\n[c](d.py)\n```\n"
    assert adapt(text, lambda link: f"{link}.md") == "[a](b.py.md)\n```\n[c](d.py)\n```\n"


def test_a_site_is_checked(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<h1 id="top"></h1><a href="#top">a</a><a href="#no">b</a><a href="no.html">c</a>'
        '<a href="sub/page.html#there">d</a><a href="https://example.org">e</a>'
        '<script src="https://example.org/x.js"></script><img src="no.png">'
    )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "page.html").write_text('<p id="there"></p><a href="../index.html">a</a>')
    (tmp_path / "style.css").write_text("@import url(https://example.org/x.css);")
    assert set(check(tmp_path)) == {
        "index.html: #no has no such anchor",
        "index.html: no.html leads nowhere",
        "index.html: loads https://example.org/x.js",
        "index.html: no.png leads nowhere",
        "style.css: loads something from elsewhere",
    }
    assert list(check(tmp_path / "sub" / "nothing")) != []
