"""What is installed is pinned, fits together, and may be used: checked without a network."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution, distributions
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
OURS = "hippo-tuner"
TOOLS = {"pip", "setuptools", "wheel"}
"""Of the environment itself, whoever made it."""
SILENT = {"cuda-toolkit"}
"""Packages without a word on their licence: NVIDIA's."""
ALLOWED = re.compile(
    r"\b(MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla|HPND|CMU|Zlib|Unlicense|0BSD"
    r"|CNRI|Public Domain|LGPL|Lesser General|NVIDIA|LicenseRef-NVIDIA)",
    re.IGNORECASE,
)
"""Nothing here obliges whoever uses Hippo to publish code; CUDA comes with its own terms."""


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> dict[str, Distribution]:
    found = {normalized(d.metadata["Name"]): d for d in distributions()}
    return {name: d for name, d in found.items() if name not in TOOLS and name != OURS}


def entries() -> dict[str, list[str]]:
    """Of constraints.txt, by name: the line with the version, and those with hashes."""
    found: dict[str, list[str]] = {}
    entry: list[str] = []
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line.startswith(" "):
            entry.append(line.strip().rstrip("\\ "))
        elif line and not line.startswith("#"):
            entry = found[normalized(line.partition("==")[0])] = [line]
    return found


def pins() -> dict[str, str]:
    lines = {name: entry[0].partition("==")[2] for name, entry in entries().items()}
    return {name: re.split(r"[ ;\\]", line)[0] for name, line in lines.items()}


def print_requirements(*words: str) -> str:
    script = [sys.executable, "-I", str(ROOT / "requirements.py"), *words]
    done = subprocess.run(script, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def licence_of(distribution: Distribution) -> str:
    metadata = distribution.metadata
    classifiers = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    expression = metadata.get("License-Expression") or (metadata.get("License") or "")[:200]
    return " ".join([expression, *classifiers])


def test_every_installed_package_is_pinned() -> None:
    known = pins()
    wrong = {
        name: distribution.version
        for name, distribution in installed().items()
        if known.get(name) != distribution.version.partition("+")[0]
    }
    assert not wrong, f"constraints.txt says otherwise of {wrong}"


def test_every_pin_has_hashes_and_names_no_place() -> None:
    for name, (_, *hashes) in entries().items():
        assert hashes, name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", text) for text in hashes), name
    text = (ROOT / "constraints.txt").read_text()
    assert not re.search(r"://|--\w*index|--find-links", text)


def test_what_runs_before_hippo_is_pinned() -> None:
    """The build backend, and pip, which checks all other hashes."""
    known = pins()
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    asked = [normalized(re.split(r"[<>=!~ ]", line)[0]) for line in groups["build"]]
    assert {"hatchling", "pip"} <= set(asked) <= known.keys()
    pinned = print_requirements("--pinned", "pip").splitlines()
    assert pinned[0].startswith(f"pip=={known['pip']} ")
    assert len(pinned) == len(entries()["pip"]) > 1


def test_nothing_is_installed_without_hashes() -> None:
    for file in ("Dockerfile", "Makefile"):
        text = (ROOT / file).read_text().replace("\\\n", " ")
        for line in re.findall(r"(?:pip install|\$\(PIP\)) (.*)", text):
            is_ours = "--no-deps" in line and ("--no-index" in line or "-e ." in line)
            assert is_ours or "--require-hashes" in line, f"{file}: {line}"


def test_requirements_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = print_requirements("project", "operator").splitlines()
    assert told == project["dependencies"] + project["optional-dependencies"]["operator"]


def test_images_are_named_by_their_digests() -> None:
    """Whoever moves a tag changes nothing here."""
    digest = r"@sha256:[0-9a-f]{64}$"
    bases = re.findall(r"^ARG \w+=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert len(bases) == 2
    values = YAML(typ="safe").load(ROOT / "charts" / "hippo" / "values.yaml")
    for image in (*bases, values["minio"]["image"]["tag"]):
        assert re.search(digest, image), image


def test_they_fit_together() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout


def test_their_licences_are_allowed() -> None:
    found = {name: licence_of(distribution) for name, distribution in installed().items()}
    strange = {name: text for name, text in found.items() if not ALLOWED.search(text)}
    assert not strange.keys() - SILENT, strange
