"""What happens to the operator: kills, a second one, an API server that is slow or out of date."""

from __future__ import annotations

import json
import random
import re
import signal
import ssl
import subprocess
import time
from collections import Counter
from itertools import count

from tests.chaos.proxy import Asked, Proxy, Rule, Spoil
from tests.chaos.run import Run
from tests.minio_server import find_free_port

LAG_SECONDS = 5.0
FROZEN_SECONDS = 75.0
"""Longer than its lock of the plan lasts."""
_SMALL = re.compile(r"[0-9a-f]{8,}|\d+")
_WRITES = ("POST", "PUT", "PATCH", "DELETE")


def api_proxy(run: Run) -> tuple[Proxy, dict[str, str]]:
    """Before the API server, with an administrator's rights, until the run is over; and the
    environment of an operator that goes through it.
    """
    config = json.loads(run.site.cluster.kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    tls = ssl.create_default_context(cafile=cluster["certificate-authority"])
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
    tls.load_cert_chain(user["client-certificate"], user["client-key"])
    proxy = run.stack.enter_context(Proxy(cluster["server"], tls=tls).running())
    config["clusters"][0]["cluster"] = {"server": proxy.endpoint}
    config["users"][0]["user"] = {}
    file = run.site.log.with_name("proxy.kubeconfig")
    file.write_text(json.dumps(config))
    return proxy, {"KUBECONFIG": str(file)}


def name_phase(asked: Asked) -> str | None:
    """What of its round an operator is about to write, whatever the object; None for reads."""
    path, _, query = asked.path.partition("?")
    if asked.method not in _WRITES or "dryRun" in query or "/events" in path:
        return None
    if "/apis/" in path or "/api/v1/" in path:
        parts = path.partition("/namespaces/")[2].split("/")
        kind, rest = parts[1], parts[3:]
        return " ".join([asked.method, "/".join([kind, *rest])])
    folders = [part for part in path.split("/")[5:] if not _SMALL.fullmatch(part)]
    kind = folders[0].removesuffix(".json") if folders else "plan"
    if kind == "studies" and len(folders) > 2:
        kind = folders[2]  # decisions, requests, answers
    return f"{asked.method} store/{kind}"


def killed_at_each_write(run: Run) -> None:
    """SIGKILL before and after the first write of each kind; a new one starts each time."""
    done: Counter[str] = Counter()

    def rule(asked: Asked) -> Spoil | None:
        phase = name_phase(asked)
        process = run.site.operator
        if phase is None or process is None or process.poll() is not None or not _is_own(asked):
            return None
        done[phase] += 1
        if done[phase] == 1:
            return Spoil(before=lambda: _kill(run, process), instead=503)
        if done[phase] == 2:
            return Spoil(then=lambda: _kill(run, process), is_lost=True)
        return None

    api, environment = api_proxy(run)
    store = run.put_before(run.minio.endpoint)
    api.rule = store.rule = rule
    environment["AWS_ENDPOINT_URL"] = store.endpoint
    run.begin(**environment)
    while not run.has_ended:
        process = run.site.operator
        if process is not None and process.poll() is not None:
            run.site.start_operator(**environment)
        time.sleep(0.1)
    run.phases = sorted(phase for phase, times in done.items() if times >= 2)
    api.rule = store.rule = lambda _: None
    run.site.stop_operator()
    run.site.start_operator()


def _is_own(asked: Asked) -> bool:
    """An operator's request: pods have addresses of their own."""
    return not asked.peer.startswith("198.18.1.")


def _kill(run: Run, process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    run.injected()


def killed_often(run: Run) -> None:
    """SIGKILL at random moments: a quarter of them within the time that an operator takes to start
    here, the others within that time from when it watches. So one gets equally far on any machine.
    """
    dice = random.Random(3)
    began = 0  # where the present operator's log begins

    def watches() -> bool:
        return _WATCHES in run.site.log.read_bytes()[began:]

    started = time.monotonic()
    run.begin()
    run.wait_until(watches, "the operator watches")
    life = time.monotonic() - started
    while not run.has_ended:
        time.sleep(dice.uniform(0.0, life))
        run.site.stop_operator(signal.SIGKILL)
        run.injected()
        began = run.site.log.stat().st_size
        run.site.start_operator()
        if dice.random() > 0.25:
            run.wait_until(lambda: watches() or run.has_ended, "the operator watches")


_WATCHES = b"looking after "
"""In the first line of an operator's log, which it writes once it is up."""
_AS_IN_A_POD = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Each is process 1 of its own, and sees no other."""


def second_by_mistake(run: Run) -> None:
    """Under the same identity, from the beginning to the end."""
    run.site.launcher = _AS_IN_A_POD
    _beside(run, [])


def second_of_another_name(run: Run) -> None:
    _beside(run, ["--identity", "another"])


def both_with_stale_caches(run: Run) -> None:
    """Two of one identity; what each sees of changes comes seconds late."""
    run.site.launcher = _AS_IN_A_POD
    api, environment = api_proxy(run)
    api.rule = watches_lag
    _beside(run, [], **environment)


def watches_lag(asked: Asked) -> Spoil | None:
    return Spoil(lag=LAG_SECONDS) if "watch=" in asked.path else None


def _beside(run: Run, options: list[str], **environment: str) -> None:
    run.begin(**environment)
    start_second(run, options, **environment)
    run.injected()


def start_second(run: Run, options: list[str], **environment: str) -> None:
    """Another operator, until the run is over."""
    log = run.site.log.with_name("second.log")
    process = run.site.launch_operator(log, find_free_port(), *options, **environment)
    run.stack.callback(process.wait)
    run.stack.callback(process.kill)


def frozen_while_another_takes_over(run: Run) -> None:
    """SIGSTOP for longer than its lock lasts; another works on; then both are at work."""
    run.begin()
    run.wait_for_steps(20)
    first = run.site.operator
    assert first is not None
    first.send_signal(signal.SIGSTOP)
    start_second(run, ["--identity", "another"])
    run.injected()
    time.sleep(FROZEN_SECONDS)
    first.send_signal(signal.SIGCONT)


def slow_api_server(run: Run) -> None:
    """Half a second for each request, and watches five seconds late."""
    _through_proxy(run, lambda asked: watches_lag(asked) or Spoil(wait=0.5))


def unreliable_api_server(run: Run) -> None:
    """One in ten requests is refused, and one in ten done and its answer lost."""
    dice = random.Random(4)

    def rule(asked: Asked) -> Spoil | None:
        drawn = dice.random()
        if drawn < 0.1:
            return Spoil(instead=503)
        return Spoil(is_lost=True) if drawn < 0.2 and "watch=" not in asked.path else None

    _through_proxy(run, rule)


def _through_proxy(run: Run, rule: Rule) -> None:
    spoilt = count()

    def counted(asked: Asked) -> Spoil | None:
        found = rule(asked)
        if found is not None:
            next(spoilt)
        return found

    api, environment = api_proxy(run)
    api.rule = counted
    run.begin(**environment)
    run.wait_until(lambda: run.has_ended, "the study has ended")
    run.injected(next(spoilt))
    api.rule = lambda _: None
