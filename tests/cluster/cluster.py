"""The cluster as tests see it, and how it comes up and goes down."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import urllib3
from minio import Minio

from tests import minio_server
from tests.builds import Impossible, locked, say, skip_or_fail
from tests.cluster import (
    base_image,
    buildah,
    certificates,
    control_plane,
    earlier,
    foreign,
    images,
    imports,
    leftovers,
    network,
    node,
    packages,
    programs,
)
from tests.cluster.commands import run
from tests.cluster.places import GPUS, KUBECONFIG, MINIO_PORT, NODE, NODE_ADDRESS, RUN
from tests.cluster.processes import Process, wait_until
from tests.cluster.reader import Reader
from tests.minio_server import ADMIN, BUCKET, PASSWORD

MINIO_URL = f"http://{NODE_ADDRESS}:{MINIO_PORT}"
_LOCK = RUN.with_name("run.lock")


@dataclass(frozen=True)
class Cluster:
    """A running cluster that has the images."""

    kubeconfig: Path
    images: images.Images
    minio_url: str | None
    """An S3 with the bucket "hippo", as pods and tests reach it; None in someone else's cluster."""
    bin: Path
    """kubectl, helm, promtool, prometheus and more."""

    @property
    def operator_image(self) -> str:
        return self.images.operator

    @property
    def trainer_image(self) -> str:
        return self.images.trainer

    @property
    def digits_image(self) -> str:
        """The trainer image with the trainer of examples/digits."""
        return self.images.digits

    @cached_property
    def reader(self) -> Reader:
        return Reader(self.kubeconfig)

    def kubectl(
        self, *words: str, input: str | None = None, check: bool = True, timeout: float = 60.0
    ) -> str:
        """Its standard output. Raises CommandFailed with what it said."""
        kubectl = (self.bin / "kubectl", "--kubeconfig", self.kubeconfig)
        return run([*kubectl, *words], input=input, check=check, timeout=timeout)


def open_cluster() -> Cluster:
    """Ours, started or as it runs, or somebody's own. Skips the test where neither can be."""
    try:
        if kubeconfig := foreign.find_kubeconfig():
            bin = foreign.find_programs()
            return Cluster(kubeconfig, foreign.bring_images(), None, bin)
        return up()
    except Impossible as reason:
        skip_or_fail(reason)


def build() -> None:
    """What takes long, one after the other; next time it is there. Raises Impossible."""
    packages.install()
    programs.build()


def up() -> Cluster:
    """Raises Impossible."""
    build()
    with locked(_LOCK):
        if is_up():
            say("the cluster is up")
            return _describe(_bring_images())
        began = time.monotonic()
        leftovers.remove()
        try:
            cluster = _start()
        except BaseException:
            _stop_all()
            raise
        say(f"the cluster is up: it took {time.monotonic() - began:.0f} s")
        return cluster


def down() -> None:
    with locked(_LOCK):
        leftovers.remove()


def bring_images() -> images.Images:
    """Build what has changed, and import it. Raises Impossible."""
    packages.install()
    programs.build((programs.KUBERNETES, minio_server.RECIPE))
    with locked(_LOCK):
        if not node.CONTAINERS.is_running:
            raise Impossible("the cluster is down: make cluster-up")
        return _bring_images()


def is_up() -> bool:
    """All of it."""
    everything = (*control_plane.ALL, *node.ALL)
    return all(process.is_running for process in everything) and _is_node_ready()


def _start() -> Cluster:
    RUN.mkdir(parents=True, mode=0o700)
    network.set_up()
    certificates.make_certificates()
    control_plane.start_api_server(programs.BIN)
    node.start_containerd(images.name_images().pause)
    node.start_minio(programs.BIN)
    with ThreadPoolExecutor() as pool:
        importing = pool.submit(_bring_images)
        control_plane.start_controllers(programs.BIN)
        node.start_services(programs.BIN)
        node.start_kubelet(programs.BIN)
        _wait_until_ready()
        names = importing.result()
    # Not later: somebody's tests may still use images of sources that have changed since.
    kept = {*names.all, earlier.OPERATOR, earlier.TRAINER}
    imports.keep_only(kept)
    buildah.keep_only({*kept, base_image.NAME})
    return _describe(names)


def _stop_all() -> None:
    """Without removing anything: the logs and states say what was wrong."""
    for process in (*control_plane.ALL, *node.ALL):
        process.stop()


def _bring_images() -> images.Images:
    names = images.name_images()
    present = imports.list_imported()
    for image in names.all:
        if image not in present:
            began = time.monotonic()
            images.build(image, names)
            imports.import_image(image)
            say(f"imported {image} in {time.monotonic() - began:.0f} s")
    return names


def _describe(names: images.Images) -> Cluster:
    return Cluster(KUBECONFIG, names, MINIO_URL, programs.BIN)


def _wait_until_ready() -> None:
    conditions: list[tuple[str, Callable[[], bool], tuple[Process, ...]]] = [
        ("the node is ready", _is_node_ready, (node.KUBELET, node.CONTAINERS)),
        ("names are served", lambda: _answers(f"http://{NODE_ADDRESS}:8181/ready"), (node.DNS,)),
        ("pods have accounts", _has_default_account, (control_plane.CONTROLLERS,)),
        ("MinIO is ready", lambda: _answers(f"{MINIO_URL}/minio/health/cluster"), (node.MINIO,)),
    ]
    for what, is_true, processes in conditions:
        wait_until(what, is_true, timeout=120, processes=processes)
    server = MINIO_URL.removeprefix("http://")
    client = Minio(server, ADMIN, PASSWORD, secure=False, region="us-east-1")
    if not client.bucket_exists(BUCKET):
        client.make_bucket(BUCKET)


def _is_node_ready() -> bool:
    """With its GPUs."""
    text = _kubectl("get", "node", NODE, "--output=json")
    if not text:
        return False
    status = json.loads(text)["status"]
    ready = {"type": "Ready", "status": "True"}
    return status["allocatable"].get("nvidia.com/gpu") == str(GPUS) and any(
        ready.items() <= condition.items() for condition in status["conditions"]
    )


def _has_default_account() -> bool:
    return bool(_kubectl("get", "serviceaccount", "default", "--output=name"))


def _kubectl(*words: str) -> str:
    """Empty if it fails."""
    kubectl = (programs.BIN / "kubectl", "--kubeconfig", KUBECONFIG, "--request-timeout=5s")
    return run([*kubectl, *words], check=False)


def _answers(url: str) -> bool:
    try:
        with urllib3.PoolManager(retries=False, timeout=5.0) as pool:
            return pool.request("GET", url).status == 200
    except urllib3.exceptions.HTTPError:
        return False
