"""A real Kubernetes node for tests: built from source, started on this machine, used again.

    python -m tests.cluster up        # or make cluster-up; says which kubeconfig to use
    python -m tests.cluster images    # after a change of the project's sources
    python -m tests.cluster status
    python -m tests.cluster logs      # where they are, and the end of each
    python -m tests.cluster down      # or make cluster-down

It needs Linux, root and Go, installs Debian's packages that are missing, and keeps what it builds
in ``${XDG_CACHE_HOME:-~/.cache}/hippo``: 40 minutes and 9 GB the first time. All traffic stays on
loopback and on 198.18.0.0/16.
"""

from tests.cluster.cluster import Cluster, open_cluster

__all__ = ["Cluster", "open_cluster"]
