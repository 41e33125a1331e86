"""Hippo as it was at an earlier commit: its sources out of git, its chart, and its images."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

from tests.builds import CACHE, Impossible, build_once, locked, say
from tests.cluster import base_image, buildah, imports

PROJECT = Path(__file__).parents[2]
COMMIT = "2c382d2d22ed7e5d7a6c0f913b1e858510000f31"
"""From which studies are to be upgraded: the last one before the formats were sealed."""


_TAG = hashlib.sha256(f"{COMMIT}\n{base_image.NAME}".encode()).hexdigest()[:12]
OPERATOR = f"localhost/hippo/earlier-operator:{_TAG}"
TRAINER = f"localhost/hippo/earlier-trainer:{_TAG}"


def unpack() -> Path:
    """The folder with its sources. Raises Impossible where git does not have it."""
    folder = CACHE / "earlier" / COMMIT[:12]
    if not folder.is_dir():
        build_once(folder, _unpack)
    return folder


def _unpack(target: Path) -> None:
    words = ["git", "-C", str(PROJECT), "archive", "--format=tar", COMMIT]
    try:
        done = subprocess.run(words, capture_output=True, timeout=60)
    except FileNotFoundError:
        raise Impossible("git is not installed, and an earlier Hippo comes out of it") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
        raise Impossible(
            f"git cannot give commit {COMMIT[:12]}, from which an upgrade is tested: in a shallow"
            f" clone, git fetch --unshallow; it says: {said[-1]}"
        )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(target, filter="data")


def bring_images() -> None:
    """Into the node: ``OPERATOR`` and ``TRAINER``. Raises Impossible."""
    sources = unpack()
    base = base_image.build()
    with locked(buildah.FOLDER / "earlier.lock"):
        for target, image in (("operator", OPERATOR), ("trainer", TRAINER)):
            if image in imports.list_imported():
                continue
            if not buildah.has(image):
                say(f"building the {target} image of {COMMIT[:12]}: about a minute, once")
                bases = {"BASE_IMAGE": base, "TRAINER_BASE_IMAGE": base}
                buildah.build(sources, image, target=target, arguments=bases)
            imports.import_image(image)
