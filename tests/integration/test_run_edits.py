"""A study file edited while it is trained: what may change takes effect, the rest is refused."""

from __future__ import annotations

import os
from typing import Any

from tests.integration.runs import Place, wait_until

SLOW: dict[str, Any] = {
    "steps": 200,
    "trainer": {"entrypoint": "walk:Walk", "config": {"sleep": 0.02}},
    "algorithm": {"name": "grid"},
}


def test_a_running_study_is_suspended_and_goes_on(place: Place) -> None:
    first = place.study("first", {"lr": [0.1, 0.2]}, **SLOW)
    second = place.study("second", {"lr": [0.3, 0.4]}, **{**SLOW, "steps": 60})
    heard = place.folder / "heard.txt"
    with heard.open("w") as file:
        process = place.start("run", first, second, "--workers", "1", "-o", "json", stderr=file)
        wait_until(lambda: len(place.trained()) > 10, "training is under way")
        replace(place, "first", suspend=True)
        wait_until(lambda: "first: edited: suspend" in heard.read_text(), "the edit is seen")
        replace(place, "first", steps=300, suspend=False)
        wait_until(lambda: "the edit is refused" in heard.read_text(), "what may not change")
        wait_until(lambda: "second: succeeded" in heard.read_text(), "the other one has ended")
        assert "first: succeeded" not in heard.read_text()
        status = place.finish(process, status=None).status
    assert status != 0
    told = heard.read_text()
    assert "first: the edit is refused: spec.steps: may not change" in told
    assert "first: suspended; set spec.suspend to false and run again" in told
    replace(place, "first", steps=200, suspend=False)
    place.call("run", first, "--workers", "2")
    assert place.check_nothing_twice() == 2 * 200 + 2 * 60


def replace(place: Place, name: str, **spec: Any) -> None:
    """As editors do: the new version takes the place of the old one whole."""
    path = place.folder / f"{name}.yaml"
    before = path.read_bytes()
    place.edit(name, **spec)
    after = place.folder / "new.tmp"
    after.write_bytes(path.read_bytes())
    path.write_bytes(before)
    os.replace(after, path)
