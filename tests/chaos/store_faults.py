"""What happens to the store, for operator and pods alike."""

from __future__ import annotations

import io
import random
import time
from itertools import count
from pathlib import Path

from minio import Minio, MinioAdmin
from minio.credentials.providers import StaticProvider
from minio.error import S3Error

from hippo.kube.pods.manifest import pod_name
from tests.chaos.proxy import Asked, Proxy, Spoil
from tests.chaos.run import STUDY, Run
from tests.cluster.commands import run as execute
from tests.minio_server import ADMIN, BUCKET, PASSWORD

AWAY_SECONDS = 60.0
FULL_SECONDS = DENIED_SECONDS = 30.0
SLOW_SECONDS = 0.7
"""Of each request."""
MANIFEST_SECONDS = 10.0
"""Until data of a checkpoint has its manifest, which is written after it."""


def _bucket(run: Run) -> Minio:
    return Minio(run.minio.address, ADMIN, PASSWORD, secure=False, region="us-east-1")


def away(run: Run) -> None:
    """Killed, and started again after a minute."""
    run.begin()
    run.wait_for_steps(20)
    run.minio.stop()
    run.injected()
    time.sleep(AWAY_SECONDS)
    run.minio.start()


def frozen(run: Run) -> None:
    """It takes connections, and does not answer."""
    run.begin()
    run.wait_for_steps(20)
    with run.minio.frozen():
        run.injected()
        time.sleep(AWAY_SECONDS / 2)


def _through_proxy(run: Run) -> Proxy:
    return run.put_before(run.minio.endpoint)


def slow(run: Run) -> None:
    """All the time."""
    proxy, dice = _through_proxy(run), random.Random(1)
    seen = count()

    def rule(_: Asked) -> Spoil:
        next(seen)
        return Spoil(wait=dice.uniform(0.0, 2 * SLOW_SECONDS))

    proxy.rule = rule
    run.begin(AWS_ENDPOINT_URL=proxy.endpoint)
    run.wait_until(lambda: run.has_ended, "the study has ended")
    run.injected(next(seen))


def unreliable(run: Run) -> None:
    """One in ten requests is refused; one in ten is done, and its answer lost; all the time."""
    proxy, dice = _through_proxy(run), random.Random(2)
    spoilt = count()

    def rule(_: Asked) -> Spoil | None:
        drawn = dice.random()
        if drawn < 0.2:
            next(spoilt)
        if drawn < 0.1:
            return Spoil(instead=503)
        return Spoil(is_lost=True) if drawn < 0.2 else None

    proxy.rule = rule
    run.begin(AWS_ENDPOINT_URL=proxy.endpoint)
    run.wait_until(lambda: run.has_ended, "the study has ended")
    run.injected(next(spoilt))


def full(run: Run) -> None:
    """Its disk, a small one, is filled by somebody else; later there is room again."""
    folder = run.minio.folder
    run.minio.stop()
    execute(["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", folder])
    run.stack.callback(_unmount, run, folder)
    run.minio.start()
    run.minio.make_bucket(BUCKET)
    run.begin()
    run.wait_for_steps(20)
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        try:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        except OSError:
            pass
    run.injected()
    time.sleep(FULL_SECONDS)
    ballast.unlink()


def _unmount(run: Run, folder: Path) -> None:
    run.site.stop_operator()
    run.minio.stop()
    execute(["umount", "--lazy", folder], check=False)


def denying(run: Run) -> None:
    """The keys of operator and pods lose the right to write, and get it back."""
    credentials = StaticProvider(ADMIN, PASSWORD)
    admin = MinioAdmin(
        endpoint=run.minio.address, credentials=credentials, region="us-east-1", secure=False
    )
    user, secret = "team", "team-password"
    admin.user_add(user, secret)
    admin.attach_policy(["readwrite"], user=user)
    keys = {"AWS_ACCESS_KEY_ID": user, "AWS_SECRET_ACCESS_KEY": secret}
    given = [f"--from-literal={name}={value}" for name, value in keys.items()]
    run.site.kubectl("delete", "secret", "hippo-store")
    run.site.kubectl("create", "secret", "generic", "hippo-store", *given)
    run.begin(**keys)
    run.wait_for_steps(20)
    admin.attach_policy(["readonly"], user=user)
    admin.detach_policy(["readwrite"], user=user)
    run.injected()
    time.sleep(DENIED_SECONDS)
    admin.attach_policy(["readwrite"], user=user)


def _read(bucket: Minio, name: str) -> bytearray | None:
    """None if the operator has removed the object since it was listed."""
    try:
        answer = bucket.get_object(BUCKET, name)
    except S3Error as error:
        if error.code == "NoSuchKey":
            return None
        raise
    try:
        return bytearray(answer.read())
    finally:
        answer.close()


def corrupted_checkpoints(run: Run) -> None:
    """A byte of every checkpoint there is, at two moments."""
    run.begin()
    bucket = _bucket(run)
    for _ in range(2):
        run.wait_for_steps(30)
        if run.has_ended:
            return
        plan = run.site.plan_name(STUDY)
        prefix = f"{run.site.namespace}/{run.site.namespace}/{plan}"
        makers = _find_makers(run)
        damaged = set()
        for item in bucket.list_objects(BUCKET, f"{prefix}/data/", recursive=True):
            name = str(item.object_name)
            if (data := _read(bucket, name)) is None:
                continue
            data[len(data) // 2] ^= 1
            _overwrite(bucket, name, bytes(data))
            damaged.add(name.removeprefix(f"{prefix}/data/").partition("/")[0])
            run.injected()
        deadline = time.monotonic() + MANIFEST_SECONDS
        while damaged - makers.keys() and time.monotonic() < deadline:
            makers |= _find_makers(run)
        run.spoilt |= {pod_name(plan, makers[key]) for key in damaged & makers.keys()}


def _find_makers(run: Run) -> dict[str, str]:
    """By key of a checkpoint, the chain that has made it, as its manifest says."""
    return {key: manifest.chain for key, manifest in run.store.load().manifests.items()}


def truncated_reports(run: Run) -> None:
    """Half of what is left of each report that there is, at two moments."""
    run.begin()
    bucket = _bucket(run)
    for _ in range(2):
        run.wait_for_steps(30)
        if run.has_ended:
            return
        plan = run.site.plan_name(STUDY)
        prefix = f"{run.site.namespace}/{run.site.namespace}/{plan}/reports/"
        for item in bucket.list_objects(BUCKET, prefix, recursive=True):
            name = str(item.object_name)
            if (data := _read(bucket, name)) is None:
                continue
            _overwrite(bucket, name, bytes(data[: len(data) // 2]))
            chain, _, _ = name.removeprefix(prefix).partition("/")
            run.spoilt.add(pod_name(plan, chain))
            run.injected()


def _overwrite(bucket: Minio, name: str, data: bytes) -> None:
    bucket.put_object(BUCKET, name, io.BytesIO(data), len(data))
