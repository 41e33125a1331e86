"""The command: see the package."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.checkpointing.chains import Course, compare
from benchmarks.checkpointing.report import table
from benchmarks.checkpointing.studies import run_study
from benchmarks.machine import describe_machine
from hippo.protocol.assignments import TrainerCall
from tests import minio_server
from tests.minio_server import BUCKET, MinioServer

HERE = Path(__file__).parent
DIGITS = HERE.parents[1] / "examples" / "digits" / "trainer.py"
Document = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.checkpointing", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--parameters", type=int, default=62_500_000, help="of the wide network")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all figures, as JSON")
    parser.add_argument("--without-minio", action="store_true", help="measure the folder alone")
    parser.add_argument("--quick", action="store_true", help="to see that it works")
    options = parser.parse_args()
    if options.quick:
        options.repetitions, options.parameters = 1, 2_000_000
    document = measure(
        repetitions=options.repetitions,
        parameters=options.parameters,
        with_minio=not options.without_minio,
        is_quick=options.quick,
    )
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(document, indent=1) + "\n")
    print(table(document))


def measure(
    *, repetitions: int, parameters: int, with_minio: bool = True, is_quick: bool = False
) -> Document:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stores = {"folder": str(folder / "store")}
        server = MinioServer(folder / "minio")
        machine = describe_machine("torch", "numpy", "minio")
        try:
            if with_minio:
                server.start()
                server.make_bucket(BUCKET)
                os.environ.update(server.settings)
                stores["MinIO"] = f"s3://{BUCKET}/store"
                machine["minio server"] = minio_server.RECIPE.version
            chains = [
                compare(course, stores, repetitions) for course in courses(parameters, is_quick)
            ]
            studies = []
            for study, trainer, workers in find_studies(parameters, is_quick):
                for store, url in stores.items():
                    print(f"{study['metadata']['name']}, {store} ...", file=sys.stderr, flush=True)
                    found = run_study(study, trainer, url, workers=workers)
                    studies.append(
                        {"name": study["metadata"]["name"], "store": store, "workers": workers}
                        | found
                    )
        except pytest.skip.Exception as reason:
            raise SystemExit(f"{reason} (or --without-minio)") from None
        finally:
            server.stop()
    return {"machine": machine, "chains": chains, "studies": studies}


def courses(parameters: int, is_quick: bool) -> list[Course]:
    values = {"lr": 0.01, "momentum": 0.9}
    return [
        Course(
            name="digits",
            trainer=TrainerCall(entrypoint="trainer:DigitsTrainer"),
            path=DIGITS.parent,
            hyperparameters={**values, "batch_size": 64},
            steps=10 if is_quick else 200,
            save_every=5 if is_quick else 20,
        ),
        Course(
            name="wide",
            trainer=TrainerCall(entrypoint="wide:WideTrainer", config=wide(parameters)),
            path=HERE,
            hyperparameters=values,
            steps=3 if is_quick else 9,
            save_every=1 if is_quick else 3,
        ),
    ]


def find_studies(parameters: int, is_quick: bool) -> list[tuple[Document, Path, int]]:
    """Studies, their trainers, and how many workers train them."""
    steps = 6 if is_quick else 60
    rates = [0.05, *({"multistep": {"initial": 0.05, "gamma": 0.1, "milestones": [at]}}
                     for at in (steps // 3, 2 * steps // 3))]  # fmt: skip
    digits = describe_study(
        "digits",
        {"lr": {"choices": rates}, "momentum": {"choices": [0.9, 0.8]}},
        steps=steps,
        trainer={"entrypoint": "trainer:DigitsTrainer"},
    )
    fork = {"multistep": {"initial": 0.01, "gamma": 0.1, "milestones": [3]}}
    large = describe_study(
        "wide",
        {"lr": {"choices": [0.01, fork]}, "momentum": {"choices": [0.9]}},
        steps=6,
        trainer={"entrypoint": "wide:WideTrainer", "config": wide(parameters)},
    )
    return [(digits, DIGITS, 2), (large, HERE / "wide.py", 1)]


def describe_study(name: str, space: Document, *, steps: int, trainer: Document) -> Document:
    return {
        "apiVersion": "hippo.dev/v1alpha1",
        "kind": "Study",
        "metadata": {"name": name},
        "spec": {
            "objective": {"metric": "accuracy", "goal": "maximize"},
            "steps": steps,
            "space": space,
            "algorithm": {"name": "grid"},
            "trainer": trainer,
        },
    }


def wide(parameters: int) -> Document:
    return {"parameters": parameters, "iterations_per_step": 6, "batch_size": 32}


if __name__ == "__main__":
    main()
