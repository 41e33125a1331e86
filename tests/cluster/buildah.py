"""buildah and skopeo with a store of its own, so that nobody else's images are touched."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from tests.builds import CACHE
from tests.cluster.commands import CommandFailed, run

# What buildah's copy of itself in memory says now and then on a busy machine; then it works again.
_BUSY = "sealing memfd copy: Device or resource busy"
FOLDER = CACHE / "images"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# Settings of pip that say where packages are; the rest is the image's own affair.
_PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "timeout", "default-timeout")


def buildah(*words: str | Path, check: bool = True, timeout: float = 1800.0) -> str:
    storage, state = _find_store()
    command = ("buildah", "--root", storage, "--runroot", state)
    return run([*command, *words], check=check, timeout=timeout)


def has(image: str) -> bool:
    return bool(buildah("images", "--quiet", image, check=False).strip())


def build(
    context: Path, image: str, *, target: str | None = None, arguments: Mapping[str, str]
) -> None:
    """From the context's Dockerfile. Layers that are there are used again."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "pip.conf"
        settings.write_text(_pip_settings())
        secrets = [f"--secret=id=pip.conf,src={settings}"]
        if _CERTIFICATES.exists():
            secrets.append(f"--secret=id=ca.crt,src={_CERTIFICATES}")
        words: list[str | Path] = [
            *("bud", "--layers", "--isolation=chroot", "--pull-never", "--tag", image),
            *secrets,
            *(f"--build-arg={name}={value}" for name, value in arguments.items()),
            *([f"--target={target}"] if target else []),
            context,
        ]
        tries = 3
        while True:
            try:
                buildah(*words)
                return
            except CommandFailed as error:
                tries -= 1
                buildah("rm", "--all", check=False)  # what the failed step worked in
                if tries == 0 or _BUSY not in str(error):
                    raise


def keep_only(images: Collection[str]) -> None:
    """Remove other images that have a name."""
    listed = buildah("images", "--format", "{{.Name}}:{{.Tag}}").split()
    if old := [name for name in listed if "<none>" not in name and name not in images]:
        buildah("rmi", *old, check=False)


def write_layout(image: str, layout: Path) -> None:
    """Add the image to an OCI layout; layers that are there stay.

    Uncompressed: then a layer's digest is known beforehand, and it is read again at once anyway.
    """
    storage, state = _find_store()
    source = f"containers-storage:[overlay@{storage}+{state}]{image}"
    copy = ("skopeo", "--insecure-policy", "copy", "--dest-oci-accept-uncompressed-layers")
    run([*copy, source, f"oci:{layout}:{image}"])


def _find_store() -> tuple[Path, Path]:
    """Where images are, and what is mounted: that is forgotten with the boot."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    return FOLDER / "storage", FOLDER / f"run-{boot}"


def _pip_settings() -> str:
    """A pip.conf for builds that makes pip reach the registry as it does here."""
    lines = ["[global]"]
    if _CERTIFICATES.exists():
        lines.append("cert = /run/secrets/ca.crt")
    pip = shutil.which("pip3") or shutil.which("pip")
    for line in run([pip, "config", "list"], check=False).splitlines() if pip else ():
        name, _, value = line.partition("=")
        key = name.removeprefix("global.").removeprefix(":env:").lstrip(".")
        if key in _PIP_SETTINGS:
            lines.append(f"{key} = {value.strip(chr(39))}")
    return "\n".join(lines) + "\n"
