"""Throughput of checkpoints, and rate of small records, against plain disk and plain server.

    python benchmarks/store_throughput.py [--megabytes 1 64 512] [--rounds 3] [--records 300]

Four ways take turns within each round, so that other load on the machine meets them alike: a plain
file, flushed; a checkpoint in a directory; the ``minio`` package's own ``fput_object`` and
``fget_object``; a checkpoint in a bucket. A checkpoint is written with two hashes and a manifest,
and verified when it is read. MinIO runs on this machine and shares its cores with the client, so
the ratios say more than the megabytes per second.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from minio import Minio

from hippo.store import PlanStore, open_blobs
from hippo.store.records import Began
from tests.minio_server import ADMIN, BUCKET, PASSWORD, MinioServer

TENSOR = 8 << 20  # bytes; a checkpoint is a list of them
Way = tuple[str, Callable[[], None], Callable[[], None], Callable[[], None]]
"""Name, write, read, remove."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 64, 512])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = MinioServer(folder / "minio")
        try:
            server.start()
        except pytest.skip.Exception as reason:
            raise SystemExit(str(reason)) from None
        try:
            server.make_bucket(BUCKET)
            os.environ.update(server.settings)
            for size in options.megabytes:
                compare(ways(folder, server, size << 20), size, options.rounds)
            count_records(folder, server, options.records)
        finally:
            server.stop()


def ways(folder: Path, server: MinioServer, size: int) -> list[Way]:
    client = Minio(server.address, ADMIN, PASSWORD, secure=False, region="us-east-1")
    data = os.urandom(min(size, TENSOR)) * max(1, size // TENSOR)
    view = memoryview(data)
    chunks = [view[i : i + TENSOR] for i in range(0, size, TENSOR)]
    source, copy = folder / "source", folder / "copy"
    source.write_bytes(data)

    def write_file() -> None:
        with copy.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())

    def read_file() -> None:
        assert len(copy.read_bytes()) == size

    def fput() -> None:
        client.fput_object(BUCKET, "raw", str(source))

    def fget() -> None:
        client.fget_object(BUCKET, "raw", str(copy))

    def hippo(url: str, name: str) -> Way:
        store = PlanStore(open_blobs(url), "plan")
        key = f"{size}"

        def write() -> None:
            _, existed = store.write_checkpoint(
                key=key, step=1, chunks=chunks, state_digest="", fingerprint={}, chain="c"
            )
            assert not existed

        def read() -> None:
            assert len(store.read_checkpoint(store.read_manifest(key))) == size

        return name, write, read, lambda: store.delete_checkpoint(key)

    return [
        ("file", write_file, read_file, lambda: copy.unlink()),
        hippo(str(folder / "store"), "directory"),
        ("minio package", fput, fget, lambda: client.remove_object(BUCKET, "raw")),
        hippo(f"s3://{BUCKET}/store", "bucket"),
    ]


def compare(found: list[Way], megabytes: int, rounds: int) -> None:
    puts: dict[str, list[float]] = {name: [] for name, *_ in found}
    gets: dict[str, list[float]] = {name: [] for name, *_ in found}
    for _ in range(rounds):
        for name, write, read, remove in found:
            puts[name].append(megabytes / seconds_of(write))
            gets[name].append(megabytes / seconds_of(read))
            remove()
    print(f"\n{megabytes} MiB, median of {rounds}    put MiB/s    get MiB/s")
    for name in puts:
        print(f"{name:>25} {middle(puts[name]):>12.0f} {middle(gets[name]):>12.0f}")
    for mine, raw in (("directory", "file"), ("bucket", "minio package")):
        put = middle([a / b for a, b in zip(puts[mine], puts[raw], strict=True)])
        get = middle([a / b for a, b in zip(gets[mine], gets[raw], strict=True)])
        print(f"{mine + ' : ' + raw:>25} {put:>12.2f} {get:>12.2f}")


def count_records(folder: Path, server: MinioServer, count: int) -> None:
    """Records a second, one after the other."""
    client = Minio(server.address, ADMIN, PASSWORD, secure=False, region="us-east-1")
    record = Began(
        chain="c", sequence_number=0, step=0, fingerprint={"torch": "2"}, start_seconds=1.0,
        load_seconds=0.0,
    )  # fmt: skip
    data = record.model_dump_json(by_alias=True).encode()

    def rate(call: Callable[[int], object]) -> float:
        began = time.perf_counter()
        for number in range(count):
            call(number)
        return count / (time.perf_counter() - began)

    def raw(method: str, name: str) -> None:
        client._execute(method, BUCKET, name, body=data if method == "PUT" else None)

    print(f"\n{count} small records       reports/s    control polls/s    news polls/s")
    for name, url in (("directory", str(folder / "small")), ("bucket", f"s3://{BUCKET}/small")):
        store = PlanStore(open_blobs(url), "plan")
        store.write_report(record.model_copy(update={"chain": "warm"}))
        rates = [
            rate(lambda i, s=store: s.write_report(numbered(record, i))),
            rate(lambda _, s=store: s.read_control("c")),
            rate(lambda _, s=store: s.read_news({"c": count, "d": 0})),
        ]
        print(f"{name:>25} {rates[0]:>6.0f} {rates[1]:>15.0f} {rates[2]:>18.0f}")
    raw("PUT", "raw/c")
    put, get = rate(lambda i: raw("PUT", f"raw/{i}")), rate(lambda _: raw("GET", "raw/c"))
    print(f"{'minio package, put / get':>25} {put:>6.0f} {get:>15.0f}")


def numbered(record: Began, number: int) -> Began:
    return record.model_copy(update={"sequence_number": number})


def seconds_of(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def middle(values: list[float]) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    main()
