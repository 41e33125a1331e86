"""The command line: see the package."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import operator_scale
from benchmarks.machine import describe_machine
from benchmarks.operator_scale.api_server import start_api_server
from benchmarks.operator_scale.point import Place, measure
from benchmarks.operator_scale.report import table
from tests import minio_server
from tests.builds import Impossible
from tests.cluster import programs
from tests.minio_server import BUCKET, MinioServer


def main() -> None:
    parser = argparse.ArgumentParser(description=str(operator_scale.__doc__).partition("\n")[0])
    parser.add_argument("--pods", type=int, nargs="+", default=[10, 100, 300, 1000])
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all figures, as JSON")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="logs and data, where they are to stay"
    )
    parser.add_argument(
        "--deadline", type=float, default=1800.0, metavar="SECONDS", help="of a point"
    )
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True)
        document = run(options.keep, options.pods, options.deadline)
    else:
        with tempfile.TemporaryDirectory() as folder:
            document = run(Path(folder), options.pods, options.deadline)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(document, indent=2) + "\n")
    print(table(document))
    wrong = [problem for point in document["points"] for problem in point["wrong"]]
    if wrong:
        sys.exit("wrong: " + "; ".join(wrong[:10]))


def run(folder: Path, pods: list[int], deadline: float) -> dict[str, Any]:
    """All points, one after the other, on servers of their own below the folder."""
    minio = MinioServer(folder / "minio")
    try:
        minio_server.RECIPE.build()
        with start_api_server(folder) as server:
            minio.start()
            minio.make_bucket(BUCKET)
            place = Place(server, minio, folder)
            points = []
            for count in pods:
                print(f"{count} pods ...", file=sys.stderr, flush=True)
                points.append(measure(place, count, deadline=deadline))
    except Impossible as reason:
        raise SystemExit(str(reason)) from None
    finally:
        minio.stop()
    machine = describe_machine("kopf", "aiohttp", "minio")
    servers = {"kubernetes": programs.KUBERNETES.version, "minio": minio_server.RECIPE.version}
    return {"machine": machine, "servers": servers, "points": points}


if __name__ == "__main__":
    main()
