"""The base of the test images: Debian with Python and PyTorch, in place of what a registry has."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.builds import locked, say
from tests.cluster import buildah
from tests.cluster.commands import run

_SUITE = "trixie"
_PACKAGES = (
    "ca-certificates",
    "python3",
    "python3-numpy",
    "python3-pip",
    "python3-sklearn",
    "python3-torch",
    "python3-venv",
)
_REMOVED = (
    "usr/lib/libtorch-test",
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
)
_RECIPE = repr((_SUITE, _PACKAGES, _REMOVED))
NAME = f"localhost/hippo/base:{hashlib.sha256(_RECIPE.encode()).hexdigest()[:12]}"


def build() -> str:
    """The name of the image, built if need be."""
    if buildah.has(NAME):
        return NAME
    with locked(buildah.FOLDER / "base.lock"):
        if not buildah.has(NAME):
            say(f"building the base image, Debian {_SUITE} with PyTorch: about 4 min, once")
            _build()
    return NAME


def _build() -> None:
    container = buildah.buildah("from", "scratch").strip()
    try:
        root = Path(buildah.buildah("mount", container).strip())
        packages = ",".join(_PACKAGES)
        run(
            ["debootstrap", "--variant=minbase", f"--include={packages}", _SUITE, root],
            timeout=1800,
        )
        run(["rm", "-rf", *(root / name for name in _REMOVED)])
        buildah.buildah("umount", container)
        buildah.buildah("commit", "--rm", container, NAME)
    except BaseException:
        buildah.buildah("rm", container, check=False)
        raise
