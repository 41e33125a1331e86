"""What ``hippo run -o json`` does, by Ray Tune: a program that trains studies on this machine.

    python -m benchmarks.side_by_side.ray_program STUDY.yaml... --workers 2 --folder TEMPORARY

Says ``ready`` on standard error once the cluster is warm: its daemons run, and as many idle
processes as there are workers have imported PyTorch, the trainer and Tune. Everything else that is
said there goes to a log in the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.execution import class_cache

from benchmarks.side_by_side.trainable import WholeTrial
from hippo.model import load_studies

WARM_SECONDS = 120.0


def list_trials(files: list[Path]) -> list[str]:
    """All points of all studies in the grid's order, as ``WholeTrial`` reads them."""
    return [
        json.dumps(
            {
                "study": study.name,
                "hyperparameters": point,
                "steps": study.spec.steps,
                "trainer": {
                    "entrypoint": study.spec.trainer.entrypoint,
                    "config": study.spec.trainer.config,
                    "seed": study.spec.trainer.seed,
                    "threads": study.spec.trainer.threads,
                },
                "folder": str(file.parent),
            }
        )
        for file in files
        for study in load_studies([file])
        for point in study.search_space().enumerate()
    ]


def start_cluster(workers: int, folder: Path) -> None:
    """Daemons on loopback, and idle workers that have imported what they will need."""
    # Tune sets a variable for Lightning in its actors, and for want of it would start each of them
    # in another process than the warm ones.
    class_cache.DEFAULT_ENV_VARS.clear()
    ray.init(
        num_cpus=workers,
        include_dashboard=False,
        dashboard_host="127.0.0.1",
        log_to_driver=False,
        configure_logging=False,
        object_store_memory=128 * 2**20,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(folder / "ray"),
    )
    deadline = time.monotonic() + WARM_SECONDS
    while len(list(folder.glob("warm-*"))) < workers:  # made by ``warmth``
        if time.monotonic() > deadline:
            raise SystemExit(f"workers are not warm after {WARM_SECONDS:g} s")
        time.sleep(0.02)


def train(trials: list[str], workers: int, folder: Path) -> list[dict[str, Any]]:
    """One experiment over all trials; each worker takes the next one.

    The limit keeps Tune from asking for actors that it would have to cancel, one for each trial.
    """
    no_checkpoints = tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False)
    tuner = tune.Tuner(
        tune.with_resources(WholeTrial, {"cpu": 1}),
        param_space={"trial": tune.grid_search(trials)},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=workers),
        run_config=tune.RunConfig(
            storage_path=str(folder / "results"),
            checkpoint_config=no_checkpoints,
            failure_config=tune.FailureConfig(fail_fast=True),
            verbose=0,
        ),
    )
    results = tuner.fit()
    if results.num_errors or len(results) != len(trials):
        raise SystemExit(f"{results.num_errors} of {len(trials)} trials failed: {results.errors}")
    reported = [results[index].metrics or {} for index in range(len(results))]
    return [json.loads(metrics["outcome"]) for metrics in reported]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", type=Path, nargs="+")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    with os.fdopen(os.dup(2), "w") as told, os.fdopen(os.dup(1), "w") as output:
        with (options.folder / "ray.log").open("wb") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        trials = list_trials(options.studies)
        try:
            start_cluster(options.workers, options.folder)
            print("ready", file=told, flush=True)
            outcomes = train(trials, options.workers, options.folder)
            result = {
                "trials": outcomes,
                "stepsTrained": sum(outcome["steps"] for outcome in outcomes),
                "workerSeconds": sum(outcome["workerSeconds"] for outcome in outcomes),
                "workerProcesses": len(list(options.folder.glob("started-*"))),
            }
            print(json.dumps(result, allow_nan=False), file=output, flush=True)
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main()
