"""What it costs to compare a trainer with the checkpoint that it has loaded, beside loading it.

    python -m benchmarks.restoring [--parameters 62500000] [--rounds 5]

The wide network of ``benchmarks.checkpointing`` (500 MB with SGD and momentum) and a folder as
store, whose files are in the system's cache: from elsewhere loading takes longer, and comparing
does not. *Load*: read, verify, decode, ``load_state_dict``. *Compare*: ``state_dict`` and its hash.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.checkpointing.wide import WideTrainer
from hippo.store import DirectoryBlobs, PlanStore
from stage_runner.checkpoints.codec import decode, encode
from stage_runner.checkpoints.digest import state_digest
from stage_runner.start import build_trainer

KEY = "0" * 40
HPARAMS = {"lr": 0.01, "momentum": 0.9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parameters", type=int, default=62_500_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    trainer = build_trainer(WideTrainer, seed=0)
    config = {"parameters": options.parameters, "iterations_per_step": 1, "batch_size": 32}
    trainer.setup(config, HPARAMS)
    trainer.step(HPARAMS)
    digest = state_digest(trainer.state_dict())
    loads, compares = [], []
    with tempfile.TemporaryDirectory() as folder:
        store = PlanStore(DirectoryBlobs(Path(folder)), "plan")
        manifest, _ = store.write_checkpoint(
            key=KEY,
            step=1,
            chunks=encode(trainer.state_dict()),
            state_digest=digest,
            fingerprint={},
            chain="chain",
        )
        for _ in range(options.rounds):
            began = time.perf_counter()
            trainer.load_state_dict(decode(store.read_checkpoint(manifest)))
            loaded = time.perf_counter()
            if state_digest(trainer.state_dict()) != digest:
                raise SystemExit("the trainer is not what was loaded")
            loads.append(loaded - began)
            compares.append(time.perf_counter() - loaded)
    ratio = statistics.median(c / load for c, load in zip(compares, loads, strict=True))
    print(f"{manifest.size / 1e6:.0f} MB, {options.rounds} rounds, medians:")
    print(f"load {statistics.median(loads):.3f} s, compare {statistics.median(compares):.3f} s")
    print(f"compare / load: {ratio:.2f}")


if __name__ == "__main__":
    main()
