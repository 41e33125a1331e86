"""Throughput of checkpoints, and rate of small records, against plain disk and plain server.

    python -m benchmarks.store_throughput [--mebibytes 1 64 500] [--rounds 3] [--output FILE]
    python -m benchmarks.store_throughput --quick

Five ways take turns within each round, so that other load on the machine meets them alike: a plain
file, flushed; a checkpoint in a directory; the ``minio`` package's own ``fput_object`` and
``fget_object``; a checkpoint in a bucket; the same behind this machine's cache. A checkpoint is
written with a hash and a manifest, and verified when it is read. MinIO runs on this machine and
shares its cores with the client, so the ratios say more than the mebibytes per second.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from minio import Minio

from benchmarks.machine import describe_machine
from hippo.protocol.reports import Began
from hippo.store import PlanStore, open_blobs
from hippo.store.cache import CheckpointCache
from tests import minio_server
from tests.minio_server import ADMIN, BUCKET, PASSWORD, MinioServer

TENSOR = 8 << 20  # bytes; a checkpoint is a list of them
RATIOS = (
    ("directory", "file"),
    ("bucket", "minio package"),
    ("bucket, cached", "minio package"),
    ("bucket, cached", "bucket"),
)
Way = tuple[str, Callable[[], None], Callable[[], None], Callable[[], None]]
"""Name, write, read, remove."""
Document = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mebibytes", type=int, nargs="+", default=[1, 64, 500])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, default=300)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all figures, as JSON")
    parser.add_argument("--quick", action="store_true", help="to see that it works")
    options = parser.parse_args()
    if options.quick:
        options.mebibytes, options.rounds, options.records = [1, 20], 1, 20
    document = measure(options.mebibytes, options.rounds, options.records)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(document, indent=1) + "\n")
    print(table(document))


def measure(sizes: list[int], rounds: int, records: int) -> Document:
    """Sizes in MiB. Seconds of every write and read; records a second."""
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
            machine = describe_machine("minio") | {"minio server": minio_server.RECIPE.version}
            checkpoints = []
            for size in sizes:
                print(f"{size} MiB ...", file=sys.stderr, flush=True)
                ways = find_ways(folder, server, size << 20)
                checkpoints.append({"mebibytes": size, "seconds": take_turns(ways, rounds)})
            rates = count_records(folder, server, records)
        finally:
            server.stop()
    return {"machine": machine, "checkpoints": checkpoints, "recordsPerSecond": rates}


def table(document: Document) -> str:
    """In Markdown: throughput by size and way, medians of ratios within a round, record rates."""
    blocks = []
    for title, side in (("put", "puts"), ("get", "gets")):
        names = list(document["checkpoints"][0]["seconds"])
        lines = [row(f"{title}, MiB/s", *names), ruled(len(names))]
        ratios = [row(f"{title}, times as fast", *(f"{a} : {b}" for a, b in RATIOS))]
        ratios.append(ruled(len(RATIOS)))
        for found in document["checkpoints"]:
            size, seconds = found["mebibytes"], found["seconds"]
            speeds = [f"{size / statistics.median(seconds[name][side]):.0f}" for name in names]
            lines.append(row(f"{size} MiB", *speeds))
            compared = [
                statistics.median(
                    [b / a for a, b in zip(seconds[x][side], seconds[y][side], strict=True)]
                )
                for x, y in RATIOS
            ]
            ratios.append(row(f"{size} MiB", *(f"{ratio:.2f}" for ratio in compared)))
        blocks += ["\n".join(lines), "\n".join(ratios)]
    rates = document["recordsPerSecond"]
    names = list(rates["bucket"])
    lines = [row("records a second", *names), ruled(len(names))]
    for way, found in rates.items():
        lines.append(row(way, *(f"{found[n]:.0f}" if n in found else "" for n in names)))
    return "\n\n".join([*blocks, "\n".join(lines)])


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def ruled(columns: int) -> str:
    return "| --- |" + " ---: |" * columns


def find_ways(folder: Path, server: MinioServer, size: int) -> list[Way]:
    client = connect(server)
    data = os.urandom(min(size, TENSOR)) * -(-size // TENSOR)
    view = memoryview(data)[:size]
    chunks = [view[i : i + TENSOR] for i in range(0, size, TENSOR)]
    source, copy = folder / "source", folder / "copy"
    source.write_bytes(view)

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

    def hippo(url: str, name: str, cache: CheckpointCache | None = None) -> Way:
        store = PlanStore(open_blobs(url), "plan", cache=cache)
        key = f"{size}"

        def write() -> None:
            _, existed = store.write_checkpoint(
                key=key, step=1, chunks=chunks, state_digest="", fingerprint={}, chain="c"
            )
            assert not existed

        def read() -> None:
            assert len(store.read_checkpoint(store.read_manifest(key))) == size

        return name, write, read, lambda: store.delete_checkpoint(key)

    cache = CheckpointCache(str(folder / "cache"), 1 << 40, tell=print)
    return [
        ("file", write_file, read_file, lambda: copy.unlink()),
        hippo(str(folder / "store"), "directory"),
        ("minio package", fput, fget, lambda: client.remove_object(BUCKET, "raw")),
        hippo(f"s3://{BUCKET}/store", "bucket"),
        hippo(f"s3://{BUCKET}/cached", "bucket, cached", cache),
    ]


def take_turns(ways: list[Way], rounds: int) -> Document:
    """Seconds by way, in the order of rounds."""
    found: Document = {name: {"puts": [], "gets": []} for name, *_ in ways}
    for _ in range(rounds):
        for name, write, read, remove in ways:
            found[name]["puts"].append(seconds_of(write))
            found[name]["gets"].append(seconds_of(read))
            remove()
    return found


def count_records(folder: Path, server: MinioServer, count: int) -> Document:
    """Records a second, one after the other."""
    client = connect(server)
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

    found: Document = {}
    for name, url in (("directory", str(folder / "small")), ("bucket", f"s3://{BUCKET}/small")):
        store = PlanStore(open_blobs(url), "plan")
        store.write_report(record.model_copy(update={"chain": "warm"}))
        found[name] = {
            "reports": rate(lambda i, s=store: s.write_report(numbered(record, i))),
            "control polls": rate(lambda _, s=store: s.read_control("c")),
            "news polls": rate(lambda _, s=store: s.read_news({"c": count, "d": 0})),
        }
    raw("PUT", "raw/c")
    put, get = rate(lambda i: raw("PUT", f"raw/{i}")), rate(lambda _: raw("GET", "raw/c"))
    found["minio package, put and get"] = {"reports": put, "control polls": get}
    return found


def connect(server: MinioServer) -> Minio:
    return Minio(server.address, ADMIN, PASSWORD, secure=False, region="us-east-1")


def numbered(record: Began, number: int) -> Began:
    return record.model_copy(update={"sequence_number": number})


def seconds_of(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
