"""The share of training time that saving costs, through the real runner.

    python -m benchmarks.checkpointing [--repetitions 2] [--output build/checkpointing.json]
    python -m benchmarks.checkpointing --quick

Two trainers: the digits of ``examples/digits`` (a state of some KB), and a wide network with SGD
and momentum whose state is 500 MB. Two stores: a folder, and MinIO on this machine, which shares
its cores with training. Two ways to look:

- **a chain with saves beside the same chain without**, as processes of their own, in turns within
  each repetition. *Stood still*: what training waited for copies (and for earlier saves, if they
  are slow), of the time within ``step()``. *End to end*: by how much longer it took from the first
  step to the last. *Afterwards*: how long the last save was still being written.
- **studies by** ``hippo run``, which saves where the stage tree asks for it.

CheckFreq (FAST '21) reports at most 3.5 % for saves at intervals that it chooses itself.
"""
