"""Hippo, Hippo without merging, and Ray Tune: the same studies, trained side by side.

    python -m benchmarks.side_by_side [--repetitions 5] [--output build/side-by-side.json]
    python -m benchmarks.side_by_side --quick

All three train the digits of ``examples/digits`` by the same trainer class, under the same
hyper-parameter sequences, seeds, threads and evaluations, with as many workers. They take turns
within each repetition. Metrics of every configuration have to be equal bit for bit, in all systems
and repetitions; if they are not, it is not the same work, and nothing is reported.

What the clocks include:

- cold: from exec to exit, with all imports, Ray's daemons and their shutdown.
- warm: from when workers can begin until the result is there. Hippo's server of workers has then
  imported the trainer, and trials are known; Ray's cluster runs, and idle workers have imported
  the trainer and Tune. Building the Tuner is within, planning Hippo's trials is not.
- worker-seconds: of Hippo, from a worker's fork to its last report, with its setup, evaluations,
  checkpoints and waiting for a next stage; of Ray, within setup and training of a trial, without
  what passes between two trials.
- CPU-seconds: user and system, of all processes; "daemons" are Ray's own, which are among them.

Needs ``pip install -e '.[bench]'`` and Linux.
"""
