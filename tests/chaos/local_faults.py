"""What happens to ``hippo run``, its workers, and its store."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from tests.chaos.clock_faults import Clock
from tests.chaos.local_run import LocalRun, send
from tests.chaos.proxy import Asked, Proxy, Spoil
from tests.cluster.commands import run as execute
from tests.minio_server import BUCKET, MinioServer

AWAY_SECONDS = 60.0


def undisturbed(run: LocalRun) -> None:
    run.begin()


def killed(run: LocalRun) -> None:
    """SIGKILL, at five moments; run again each time."""
    dice = random.Random(6)
    for _ in range(5):
        run.begin()
        run.wait_for_steps(dice.randrange(1, 30))
        if not run.is_running:
            return
        run.kill()
        run.injected()


def stopped(run: LocalRun) -> None:
    """SIGTERM, at three moments; run again each time."""
    for _ in range(3):
        run.begin()
        run.wait_for_steps(25)
        if not run.is_running:
            return
        assert run.process is not None
        run.process.send_signal(signal.SIGTERM)
        run.injected()
        run.end()


def server_killed(run: LocalRun) -> None:
    for _ in range(2):
        run.begin()
        run.wait_for_steps(30)
        if not run.is_running:
            return
        assert run.process is not None
        send(run.place.server(run.process), signal.SIGKILL)
        run.injected()
        run.end()


def _workers(number: signal.Signals) -> Callable[[LocalRun], None]:
    def inject(run: LocalRun) -> None:
        run.begin()
        for _ in range(3):
            run.wait_for_steps(20)
            if run.process is None or not (workers := run.place.workers(run.process)):
                return
            send(workers[0], number)
            run.injected()

    return inject


workers_killed = _workers(signal.SIGKILL)
workers_told_to_leave = _workers(signal.SIGTERM)


def second_run(run: LocalRun) -> None:
    """The same study, started again while it runs: it is refused."""
    run.begin()
    run.wait_for_steps(1)  # the second one takes seconds to start, and the first is to be there
    assert run.process is not None
    done = run.place.call("run", run.place.folder / "study.yaml", "--store", run.store, status=1)
    run.injected()
    told = " ".join(done.errors)
    run.outcome.note(f"pid {run.process.pid}" in told, f"the second run does not say who: {told}")


# -- the store -------------------------------------------------------------------------------------


def _damage(run: LocalRun, part: str, change: Callable[[bytes], bytes]) -> None:
    """Twice: kill the driver, damage all files of one folder of the plan, and run again."""
    for _ in range(2):
        run.begin()
        run.wait_for_steps(40)
        if not run.is_running:
            return
        run.kill()
        for path in Path(run.store).glob(f"*/*/{part}/**/*"):
            if path.is_file():
                path.chmod(0o600)
                path.write_bytes(change(path.read_bytes()))
                run.injected()
        run.spoil()


def _flip(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)


def corrupted_checkpoints(run: LocalRun) -> None:
    _damage(run, "data", _flip)


def truncated_reports(run: LocalRun) -> None:
    _damage(run, "reports", lambda data: data[: len(data) // 2])


def disk_full(run: LocalRun) -> None:
    """The folder's disk, a small one, is filled by somebody else; later there is room again."""
    folder = run.place.folder.parent / "disk"
    folder.mkdir()
    execute(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder])
    run.stack.callback(execute, ["umount", "--lazy", folder], check=False)
    run.store = str(folder / "store")
    run.begin()
    run.wait_for_steps(30)
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(1 << 16)):
                pass
        except OSError:
            pass
    run.injected()
    time.sleep(15.0)
    ballast.unlink()


def _on_minio(run: LocalRun) -> MinioServer:
    minio = MinioServer(run.place.folder.parent / "minio")
    run.stack.callback(minio.stop)
    minio.start()
    minio.make_bucket(BUCKET)
    os.environ.update(minio.settings)
    run.store = f"s3://{BUCKET}/local"
    return minio


def store_away(run: LocalRun) -> None:
    minio = _on_minio(run)
    run.begin()
    run.wait_for_steps(30)
    minio.stop()
    run.injected()
    time.sleep(AWAY_SECONDS)
    minio.start()


def store_unreliable(run: LocalRun) -> None:
    minio, dice, spoilt = _on_minio(run), random.Random(7), count()
    proxy = Proxy(minio.endpoint)
    run.stack.enter_context(proxy.running())

    def rule(_: Asked) -> Spoil | None:
        drawn = dice.random()
        if drawn < 0.2:
            next(spoilt)
        if drawn < 0.1:
            return Spoil(instead=503)
        return Spoil(is_lost=True) if drawn < 0.2 else None

    proxy.rule = rule
    os.environ["AWS_ENDPOINT_URL"] = proxy.endpoint
    run.begin()
    run.end()
    run.injected(next(spoilt))
    proxy.rule = lambda _: None


# -- the clock -------------------------------------------------------------------------------------


def clock_jumps(run: LocalRun) -> None:
    """Of the driver and all workers: an hour ahead, an hour behind, right."""
    clock = Clock(run.place.folder.parent)
    os.environ.update(clock.environment)
    run.begin()
    for seconds in (3600, -3600, 0):
        run.wait_for_steps(25)
        clock.set(seconds)
        run.injected()
