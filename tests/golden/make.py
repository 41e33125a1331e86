"""Makes a golden file with the version of Hippo that is found first on the path.

    PYTHONPATH=<checkout of that version>/operator:<it> python -m tests.golden.make FILE

The operator of that version works on a study in the model of ``tests.model_checking``, and is then
stopped half-way: some steps are trained, some pods are at work, some Trials have results.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

from tests.model_checking.world import World

LRS: list[Any] = [
    0.1,
    {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [4]}},
    {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [6]}},
    {"warmup": {"from": 0, "to": 0.1, "steps": 2, "then": 0.1}},
]


def main() -> None:
    world = World()
    world.apply(
        "s",
        steps=12,
        space={"lr": {"choices": LRS}},
        algorithm={"name": "sha", "eta": 2, "minSteps": 3},
        maxTrials=4,
        parallelism=2,
    )
    world.start_operator(0, "hippo")
    operator = world.operators[0]
    for _ in range(6):
        for key in operator.behind():
            world.run(0, operator.deliver(key))
        world.take_turn(0)
        world.serve_pods(actions=3)
        world.server.now += 1.0
    workers = world.workers.values()
    document = {
        "objects": [[*key, found] for key, found in sorted(world.server.objects.items())],
        "blobs": {n: base64.b64encode(d).decode() for n, d in sorted(world.blobs.items())},
        "trained": dict(world.trained),
        "unsaved": sorted(key for worker in workers for key in worker.unsaved),
    }
    Path(sys.argv[1]).write_text(json.dumps(document, indent=1) + "\n")
    world.close()


if __name__ == "__main__":
    main()
