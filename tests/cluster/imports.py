"""Images from buildah's store into the node's containerd, only the layers that are new there."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import tarfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

from tests.cluster import buildah
from tests.cluster.commands import CommandFailed, run
from tests.cluster.places import SOCKET

_CTR = ("ctr", "--address", str(SOCKET), "--namespace", "k8s.io")
_NAME = "org.opencontainers.image.ref.name"


def list_imported() -> set[str]:
    """Names of images in the node."""
    return set(run([*_CTR, "images", "list", "--quiet"]).split())


def import_image(image: str) -> None:
    """Under the name that it has in buildah's store."""
    layout = buildah.FOLDER / "layout"
    buildah.write_layout(image, layout)
    present = set(run([*_CTR, "content", "list", "--quiet"]).split())
    manifest = _find_manifest(layout, image)
    importing = subprocess.Popen(
        [*_CTR, "images", "import", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert importing.stdin is not None
    assert importing.stderr is not None
    with importing:
        with contextlib.suppress(BrokenPipeError):  # it says why
            _write_archive(importing.stdin, layout, manifest, present)
        importing.stdin.close()
        said = importing.stderr.read().decode()
    if importing.returncode:
        raise CommandFailed(f"{image} cannot be imported: {said.strip()}")


def keep_only(names: Collection[str]) -> None:
    """Remove other images from the node and from the layout; what a container uses stays."""
    lines = run([*_CTR, "images", "list"]).splitlines()[1:]
    digests = {name: digest for name, _, digest, *_ in map(str.split, lines)}
    kept = {digests[name] for name in names if name in digests}
    # The kubelet's side has a second name for each image, made of its digest.
    old = [name for name, digest in digests.items() if digest not in kept]
    if old:
        run([*_CTR, "images", "remove", *old], check=False)
    _prune(buildah.FOLDER / "layout", names)


def _prune(layout: Path, names: Collection[str]) -> None:
    """Remove what only other images use."""
    path = layout / "index.json"
    if not path.exists():
        return
    index = json.loads(path.read_text())
    index["manifests"] = [
        entry for entry in index["manifests"] if entry["annotations"][_NAME] in names
    ]
    used = set()
    for entry in index["manifests"]:
        content = json.loads(_blob(layout, entry["digest"]).read_text())
        parts = (entry, content["config"], *content["layers"])
        used |= {_blob(layout, part["digest"]) for part in parts}
    path.write_text(json.dumps(index))
    for blob in layout.glob("blobs/*/*"):
        if blob not in used:
            blob.unlink()


def _find_manifest(layout: Path, image: str) -> dict[str, Any]:
    """The entry of the layout's index."""
    index = json.loads((layout / "index.json").read_text())
    entries: list[dict[str, Any]] = index["manifests"]
    for entry in entries:
        if entry["annotations"][_NAME] == image:
            return entry
    raise LookupError(image)


def _write_archive(
    target: IO[bytes], layout: Path, manifest: dict[str, Any], present: set[str]
) -> None:
    """An OCI archive that lacks the blobs that are present."""
    image = manifest["annotations"][_NAME]
    entry = {**manifest, "annotations": {"io.containerd.image.name": image}}
    index = {"schemaVersion": 2, "manifests": [entry]}
    content = json.loads(_blob(layout, manifest["digest"]).read_text())
    digests = [layer["digest"] for layer in content["layers"]]
    with tarfile.open(fileobj=target, mode="w|") as archive:
        _add(archive, "oci-layout", {"imageLayoutVersion": "1.0.0"})
        _add(archive, "index.json", index)
        for digest in (manifest["digest"], content["config"]["digest"], *dict.fromkeys(digests)):
            if digest not in present:
                blob = _blob(layout, digest)
                archive.add(blob, str(blob.relative_to(layout)))


def _add(archive: tarfile.TarFile, name: str, content: object) -> None:
    data = json.dumps(content).encode()
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def _blob(layout: Path, digest: str) -> Path:
    kind, _, value = digest.partition(":")
    return layout / "blobs" / kind / value
