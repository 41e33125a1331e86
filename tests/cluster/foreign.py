"""Somebody's own cluster, in place of ours.

``HIPPO_TEST_KUBECONFIG`` is its kubeconfig, with the rights of an administrator.
``HIPPO_TEST_REGISTRY`` is a prefix of image names, such as ``registry.example/team/hippo-tests``:
images are built with docker, podman or buildah, whichever there is, on the Dockerfile's own base
images, and pushed there; the cluster pulls them from there. kubectl and helm are those on PATH, or
built. Tests make namespaces, CRDs and pods with ``nvidia.com/gpu`` limits, and remove them again.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.builds import CACHE, GoRecipe, Impossible, say
from tests.cluster import images, programs
from tests.cluster.commands import run

_KUBECONFIG = "HIPPO_TEST_KUBECONFIG"
_REGISTRY = "HIPPO_TEST_REGISTRY"
_BUILDERS = ("docker", "podman", "buildah")
_PROGRAMS: dict[str, GoRecipe] = {"kubectl": programs.KUBERNETES, "helm": programs.HELM}


def find_kubeconfig() -> Path | None:
    """Of the cluster to use; None: ours."""
    named = os.environ.get(_KUBECONFIG)
    return Path(named).expanduser().absolute() if named else None


def bring_images() -> images.Images:
    """Build and push them. Raises Impossible."""
    prefix = os.environ.get(_REGISTRY, "").rstrip("/")
    if not prefix:
        raise Impossible(f"{_KUBECONFIG} is set, and {_REGISTRY} is not: where do images go?")
    builder = next((name for name in _BUILDERS if shutil.which(name)), None)
    if builder is None:
        raise Impossible(f"images cannot be built without one of {', '.join(_BUILDERS)}")
    names = images.name_images(prefix)
    for image in (names.operator, names.trainer, names.digits, names.minio):
        say(f"building and pushing {image}")
        with images.open_plan(image, names) as plan:
            run(
                [
                    *(builder, "build", "--tag", image),
                    *(["--target", plan.target] if plan.target else []),
                    *(f"--build-arg={name}={value}" for name, value in plan.arguments.items()),
                    plan.context,
                ],
                timeout=3600.0,
            )
        run([builder, "push", image], timeout=3600.0)
    return names


def find_programs() -> Path:
    """A folder with kubectl and helm. Raises Impossible."""
    folder = CACHE / "cluster" / "foreign-bin"
    folder.mkdir(parents=True, exist_ok=True)
    for name, recipe in _PROGRAMS.items():
        program = Path(shutil.which(name) or recipe.build() / name)
        link = folder / name
        if not link.is_symlink() or link.readlink() != program:
            link.unlink(missing_ok=True)
            link.symlink_to(program)
    return folder
