"""What trainers, records, file names and the environment say, through every command: under a real
terminal and through pipes nothing of it acts, and no key in a URL is told.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.foreign import HOSTILE, find_harm
from tests.integration.runs import DEADLINE, HIPPO, Place

SAYABLE = HOSTILE.replace("\ud800", "").replace("\x00", "")
"""Without what files cannot hold."""
NAME = "ev\x1b]0;PWNED\x07il\u202e\u200b\n[red]"
TRAINER = f"""
from stage_runner import Trainer

HOSTILE = {HOSTILE!r}


class Bad(Trainer):
    def setup(self, config, hparams):
        print(HOSTILE, flush=True)

    def step(self, hparams):
        if hparams["act"].startswith("fail"):
            raise ValueError(HOSTILE)
        return {{HOSTILE: 1.0}}

    def evaluate(self):
        return {{"acc": 1.0, "m" + HOSTILE.replace(chr(0xD800), ""): 0.5}}

    def state_dict(self):
        return {{}}

    def load_state_dict(self, state):
        pass
"""
STUDY = {
    "steps": 2,
    "retries": 0,
    "objective": {"metric": "acc", "goal": "maximize"},
    "trainer": {"entrypoint": "trainer:Bad"},
    "checkpoints": {"retain": "all"},
}
OWN_CONTROLS = re.compile(r"\x1b\[(?:\d+(?:;\d+)*m|\?25[lh]|\d*A|2K|m)")
"""Of a live view: what is not among these is somebody else's."""


class Site:
    def __init__(self, place: Place) -> None:
        self.place = place

    def pipe(self, *arguments: str, **environment: str) -> str:
        """What is written into pipes: both."""
        done = subprocess.run(
            [HIPPO, *arguments],
            cwd=self.place.folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DEADLINE,
        )
        return (done.stdout + done.stderr).decode()

    def draw(self, *arguments: str, **environment: str) -> str:
        """What a terminal is told."""
        terminal, other = pty.openpty()
        process = subprocess.Popen(
            [HIPPO, *arguments],
            cwd=self.place.folder,
            env={**os.environ, "TERM": "dumb", **environment},
            stdin=other,
            stdout=other,
            stderr=other,
        )
        os.close(other)
        drawn = bytearray()
        with contextlib.suppress(OSError):  # the other end is closed
            while chunk := os.read(terminal, 65536):
                drawn.extend(chunk)
        os.close(terminal)
        process.wait(timeout=DEADLINE)
        return drawn.decode().replace("\r\n", "\n")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = Place(tmp_path_factory.mktemp("hostile") / "work")
    (place.folder / "trainer.py").write_text(TRAINER)
    space = {"act": ["ok" + SAYABLE, "fail" + SAYABLE]}
    study = place.study("study", space, **STUDY)
    (place.folder / NAME).mkdir()
    (place.folder / NAME / "bad.yaml").write_text(study.read_text().replace('"steps"', '"stesp"'))
    (place.folder / f"{NAME}.yaml").write_text(study.read_text())
    (place.folder / "long.yaml").write_text(study.read_text().replace('"grid"', '"\\u202e\\u001b"'))
    made = Site(place)
    made.pipe("run", "study.yaml")
    yield made
    place.clean_up()


COMMANDS = [
    ["run", "study.yaml"],
    ["run", f"{NAME}.yaml", "--store", NAME],
    ["run", f"{NAME}/bad.yaml"],
    ["run", "long.yaml"],
    ["run", f"{NAME}/none.yaml"],
    ["run", f"--{NAME}"],
    [NAME],
    ["run", "study.yaml", "--workers", NAME],
    ["plan", f"{NAME}.yaml"],
    ["simulate", "study.yaml", "--workers", "2", "--curves", ".hippo"],
    ["verify", "study.yaml"],
    ["results", "study"],
    ["results", NAME],
    ["results", "study", "--sort", NAME],
    ["tree", "study"],
    ["export", "study", "--file", f"{NAME}.pt"],
    ["export", "study", NAME],
    ["export", "study", "--file", f"{NAME}/{NAME}/x.npz"],
    ["store", "ls"],
    ["store", "ls", f"s3://AKIA:SEC/RETSECRET@bucket/{NAME}"],
    ["store", "ls", f"{NAME}://user:SECRET@bucket?token=SECRET"],
    ["store", "ls", "s3:/AKIA:SECRET@bucket/x"],
    ["store", "gc"],
    ["store", "gc", "--max-bytes", NAME],
    ["store", "rm", NAME],
    ["operator", "--store", f"https://user:SECRET@{NAME}"],
    ["logs", NAME],
]


@pytest.fixture(scope="module")
def written(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A copy, with records of somebody else."""
    folder = tmp_path_factory.mktemp("written") / "work"
    shutil.copytree(site.place.folder, folder)
    place = Place(folder)
    store = folder / ".hippo"
    (record,) = store.glob("default/*/studies/study/study.json")
    document = json.loads(record.read_text())
    document["document"]["status"]["message"] = SAYABLE
    record.write_text(json.dumps(document))
    for decision in record.parent.glob("decisions/*.json"):
        found = json.loads(decision.read_text())
        decision.write_text(json.dumps({**found, "reason": SAYABLE}))
    plan = record.parents[2]
    (plan / "reports" / "r9-00001").mkdir(parents=True)
    (plan / "reports" / "r9-00001" / "00000000.json").write_text(HOSTILE.replace("\ud800", ""))
    held = {
        "formatVersion": 1, "host": HOSTILE, "boot": "", "pid": 1, "processStart": "",
        "command": HOSTILE, "acquired": 0, "expires": 2e9,
    }  # fmt: skip
    (plan / "lock").mkdir(exist_ok=True)
    (plan / "lock" / "99999999.json").write_text(json.dumps(held))
    yield Site(place)
    place.clean_up()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: ascii(" ".join(command))[:60])
def test_nothing_acts_on_a_terminal_or_in_a_pipe(site: Site, command: list[str]) -> None:
    for text in (site.draw(*command), site.pipe(*command)):
        assert find_harm(text) == [], text
        assert "Traceback" not in text
        assert not re.search(r"^ERROR forged", text, re.MULTILINE), text
        assert text


@pytest.mark.parametrize(
    "command",
    [["store", "ls"], ["results", "study"], ["tree", "study"], ["run", "study.yaml"],
     ["store", "gc"], ["store", "rm", "study"], ["results", "study", "-o", "json"],
     ["store", "ls", "-o", "json"]],
    ids=" ".join,
)  # fmt: skip
def test_records_of_others_do_not_act_either(written: Site, command: list[str]) -> None:
    is_json = "json" in command
    for text in (written.draw(*command), written.pipe(*command)):
        assert [found for found in find_harm(text) if found != "SECRET" or not is_json] == [], text
        assert "Traceback" not in text
        assert not re.search(r"^ERROR forged", text, re.MULTILINE), text


def test_a_live_view_draws_no_more_than_its_own(site: Site) -> None:
    text = site.draw("run", "study.yaml", "--store", "live", TERM="xterm", NO_COLOR="1")
    assert "\x1b[?25l" in text, "the view is live"
    assert find_harm(OWN_CONTROLS.sub("", text).replace("\r", "")) == []


def test_a_list_in_brackets_and_an_emojis_name_stay(site: Site) -> None:
    for text in (site.draw("results", "study"), site.pipe("results", "study")):
        found = "".join(text.split())
        assert "[bold][/INST][link=http://x]y[/link]:smile:" in found


def test_a_log_is_raw_for_programs_and_text_on_a_terminal(site: Site) -> None:
    raw = subprocess.run(
        [HIPPO, "logs", "study.yaml"], cwd=site.place.folder, capture_output=True, timeout=DEADLINE
    ).stdout
    assert SAYABLE.split("\r\n")[0].encode() in raw
    drawn = site.draw("logs", "study.yaml")
    assert find_harm(drawn.replace("\t", "")) == []
    assert r"\x1b]0;PWNED\x07\x1b[2J" in drawn
    own = [line for line in raw.decode("utf-8", "replace").splitlines() if "ValueError: " in line]
    assert any("r1-" in line for line in own)


@pytest.mark.parametrize(
    "environment",
    [
        {"AWS_ENDPOINT_URL": "https://user:SECRET@127.0.0.1:1/p?X-Amz-Signature=SECRET"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_REGION": f"{SAYABLE}SECRET"},
        {"AWS_ENDPOINT_URL": "http://192.0.2.1:1", "http_proxy": "http://user:SECRET@127.0.0.1:1"},
        {"AWS_ENDPOINT_URL": "http://192.0.2.1:1", "http_proxy": "ftp://user:SECRET@127.0.0.1:1"},
        {"AWS_ENDPOINT_URL": "http://192.0.2.1:1", "http_proxy": "user:SE/CRET:SECRET@:1"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_CA_BUNDLE": "/no\x1b[2J\u202e/SECRE"},
    ],
    ids=str,
)
def test_keys_of_the_environment_are_not_told(site: Site, environment: dict[str, str]) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "HIPPO_S3_PATIENCE": "0.2"}
    for text in (
        site.draw("store", "ls", "s3://bucket", **keys, **environment),
        site.pipe("store", "ls", "s3://bucket", **keys, **environment),
    ):
        assert text.startswith("hippo: ")
        assert find_harm(text) == [], text
        assert text.count("\n") == 1


def test_exports_go_where_they_were_asked_to(site: Site) -> None:
    site.pipe("export", "study", "--file", f"{NAME}-2.pt")
    assert Path(site.place.folder / f"{NAME}-2.pt").is_file()
