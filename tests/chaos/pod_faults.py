"""What happens to pods."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

from tests.chaos.run import STUDY, Run, send

TIMES = 3
"""To so many pods, one after the other."""


def _to_pods(run: Run, harm: Callable[[str], object], times: int = TIMES) -> None:
    """Each time to a pod that has trained some steps."""
    harmed: set[str] = set()
    for _ in range(times):
        pod = run.wait_for_worker(apart_from=harmed)
        if pod is None:
            return
        harm(pod)
        harmed.add(pod)
        run.injected()
        run.wait_for_steps(4)


def _signal(number: signal.Signals) -> Callable[[Run], None]:
    def inject(run: Run) -> None:
        def harm(pod: str) -> None:
            pid = run.find_trainer(pod)
            if pid is not None:
                send(pid, number)

        run.begin()
        _to_pods(run, harm)

    return inject


killed = _signal(signal.SIGKILL)
told_to_leave = _signal(signal.SIGTERM)


def out_of_memory(run: Run) -> None:
    """The trainer hoards until the kernel ends it."""
    run.more = {"resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "192Mi"}}}
    run.begin()
    _to_pods(run, lambda pod: run.witness.order(pod, "memory"), times=2)


def evicted(run: Run) -> None:
    def harm(pod: str) -> None:
        eviction: dict[str, Any] = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod},
        }
        path = f"/api/v1/namespaces/{run.site.namespace}/pods/{pod}/eviction"
        run.site.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(eviction))

    run.begin()
    _to_pods(run, harm)


def deleted(run: Run) -> None:
    run.begin()
    _to_pods(run, lambda pod: run.site.kubectl("delete", "pod", pod, "--wait=false"))


def deleted_by_force(run: Run) -> None:
    force = ("--grace-period=0", "--force", "--wait=false")
    run.begin()
    _to_pods(run, lambda pod: run.site.kubectl("delete", "pod", pod, *force))


def all_deleted_with_the_plan(run: Run) -> None:
    """By hand: the SearchPlan, with its pods."""
    run.begin()
    run.wait_for_steps(40)
    plan = run.site.plan_name(STUDY)
    run.site.kubectl("delete", "searchplan", plan, "--wait=false")
    run.injected()
