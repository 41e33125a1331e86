from __future__ import annotations

import torch

from stage_runner.fingerprint import describe_difference, take_fingerprint


def test_it_names_what_results_depend_on() -> None:
    found = take_fingerprint(threads=3, device="cpu")
    assert found["torch"] == torch.__version__
    assert (found["threads"], found["device"]) == ("3", "cpu")
    assert {"python", "numpy", "cpu", "kernels", "runner"} <= set(found)
    assert found == take_fingerprint(threads=3, device="cpu")


def test_differences_are_named() -> None:
    one = take_fingerprint(threads=1, device="cpu")
    assert describe_difference(one, dict(one)) is None
    other = {**one, "threads": "2", "torch": "1.0"}
    said = describe_difference(one, other)
    assert said == f"threads 1 instead of 2, torch {torch.__version__} instead of 1.0"


def test_a_library_that_one_side_did_without_does_not_matter() -> None:
    one = take_fingerprint(threads=1, device="cpu")
    without = {name: value for name, value in one.items() if name not in ("torch", "kernels")}
    assert describe_difference(one, without) is None
    assert describe_difference(without, one) is None
