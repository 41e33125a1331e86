"""The programs of the cluster, and the recipes they are built by."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests import minio_server
from tests.builds import CACHE, GoRecipe, locked

_MODULE = Path(__file__).with_name("kubernetes")
_KUBERNETES = "v1.36.1"
_STAMP = "k8s.io/component-base/version"

KUBERNETES = GoRecipe(
    name="kubernetes",
    version=_KUBERNETES,
    packages=(
        "k8s.io/kubernetes/cmd/kube-apiserver",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-proxy",
        "k8s.io/kubernetes/cmd/kube-scheduler",
        "k8s.io/kubernetes/cmd/kubectl",
        "k8s.io/kubernetes/cmd/kubelet",
        "./cmd/etcd",
        "./cmd/gpus",
        "./cmd/pause",
    ),
    minutes=8,
    linker_flags=(
        f"-s -w -X {_STAMP}.gitVersion={_KUBERNETES} -X {_STAMP}.gitMajor=1 -X {_STAMP}.gitMinor=36"
    ),
    module=_MODULE,
    sources=("cmd",),
)
HELM = GoRecipe(name="helm", version="v4.3.1", packages=("helm.sh/helm/v4/cmd/helm",), minutes=3)
COREDNS = GoRecipe(
    name="coredns", version="v1.15.0", packages=("github.com/coredns/coredns",), minutes=3
)
PROMETHEUS = GoRecipe(
    name="prometheus",
    version="v0.316.0",
    packages=(
        "github.com/prometheus/prometheus/cmd/promtool",
        "github.com/prometheus/prometheus/cmd/prometheus",
    ),
    minutes=3,
    tags="remove_all_sd,enable_kubernetes_sd,enable_dns_sd",
)
ALL = (KUBERNETES, minio_server.RECIPE, HELM, COREDNS, PROMETHEUS)

BIN = CACHE / "cluster" / "bin"


def build(recipes: tuple[GoRecipe, ...] = ALL) -> Path:
    """A folder with links to the programs, built if need be. Raises Impossible."""
    folders = [recipe.build() for recipe in recipes]
    with locked(BIN.with_name("bin.lock")):
        BIN.mkdir(exist_ok=True)
        for program in (program for folder in folders for program in folder.iterdir()):
            link = BIN / program.name
            if not link.is_symlink() or link.readlink() != program:
                link.unlink(missing_ok=True)
                link.symlink_to(program)
    return BIN


def find(name: str) -> Path | None:
    """A program that is built or installed."""
    found = shutil.which(name, path=str(BIN)) or shutil.which(name)
    return Path(found) if found else None
