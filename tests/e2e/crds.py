"""The CRDs as they are in the repository, in the cluster of the tests."""

from __future__ import annotations

from pathlib import Path

from tests.builds import locked
from tests.cluster import Cluster
from tests.cluster.places import RUN

CRDS = Path(__file__).parents[2] / "crds"

_LOCK = RUN.with_name("crds.lock")


def install(cluster: Cluster) -> None:
    """Two processes would collide in creating them: one waits for the other."""
    with locked(_LOCK):
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all")
        # Established, and yet the server may ask to try again in a second.
        cluster.kubectl("get", "studies,trials,searchplans", "--all-namespaces")
