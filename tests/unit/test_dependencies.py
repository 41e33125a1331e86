"""What is installed is pinned, fits together, and may be used: checked without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

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


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    parts = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normalized(name): version.partition(";")[0].strip() for name, version in parts}


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


def test_they_fit_together() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout


def test_their_licences_are_allowed() -> None:
    found = {name: licence_of(distribution) for name, distribution in installed().items()}
    strange = {name: text for name, text in found.items() if not ALLOWED.search(text)}
    assert not strange.keys() - SILENT, strange
