"""Every command in any encoding and width, into closed pipes, and from standard input."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.runs import DEADLINE, HIPPO, Place

TRAINER = """
import random
from stage_runner import Trainer


class Walk(Trainer):
    def setup(self, config, hparams):
        self.x = 1.0

    def step(self, hparams):
        self.x -= hparams["lr"] * self.x + random.gauss(0, 0.01)
        return {"x": self.x}

    def evaluate(self):
        return {"aux": -self.x, "Güte ✓": 1e-9 * abs(self.x)}

    def state_dict(self):
        return {"x": self.x}

    def load_state_dict(self, state):
        self.x = state["x"]
"""
SPACE = {
    "lr": [
        0.1,
        {"piecewise": [[0, 0.1], [4, {"cosine": {"initial": 0.1, "final": 0, "steps": 2}}]]},
        {
            "warmup": {
                "from": 0.01,
                "steps": 2,
                "to": 0.1,
                "then": {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [2, 3]}},
            }
        },
    ]
}
SPEC = {
    "steps": 6,
    "objective": {"metric": "Güte ✓", "goal": "minimize"},
    "trainer": {"entrypoint": "trainer:Walk"},
    "checkpoints": {"retain": "all"},
}
COMMANDS = [
    ["run", "study.yaml"],
    ["run", "study.yaml", "-o", "json"],
    ["plan", "study.yaml"],
    ["plan", "study.yaml", "-o", "json"],
    ["simulate", "study.yaml", "--workers", "2"],
    ["verify", "study.yaml"],
    ["results", "study.yaml"],
    ["results", "study.yaml", "-o", "json"],
    ["tree", "study.yaml"],
    ["tree", "study.yaml", "-o", "json"],
    ["logs", "study.yaml"],
    ["export", "study.yaml", "--file", "größe.pt"],
    ["store", "ls"],
    ["store", "gc", "--dry-run"],
    ["--help"],
    ["results", "--help"],
    ["crds"],
]
DRAWN = [["run", "study.yaml"], ["plan", "study.yaml"], ["results", "study.yaml"]]
MISTAKES = [["results", "nösuch"], ["run", "nösuch.yaml"], ["--wörse"], ["run", "wrong.yaml"]]


@dataclass
class Site:
    """A folder with a study that was trained."""

    place: Place

    def environment(self, **changed: str | None) -> dict[str, str]:
        found = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "TERM")}
        return {k: v for k, v in {**found, "TERM": "xterm", **changed}.items() if v is not None}

    def call(
        self, *arguments: str, given: bytes | None = None, **changed: str | None
    ) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [HIPPO, *arguments],
            cwd=self.place.folder,
            env=self.environment(**changed),
            input=given,
            capture_output=True,
            timeout=DEADLINE,
        )
        assert b"Traceback" not in done.stderr, done.stderr
        assert b"Exception ignored" not in done.stderr, done.stderr
        return done

    def draw(self, *arguments: str, columns: int, **changed: str | None) -> str:
        """What a terminal of that width is told, without its controls."""
        terminal, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = subprocess.Popen(
            [HIPPO, *arguments],
            cwd=self.place.folder,
            env=self.environment(**changed),
            stdin=other,
            stdout=other,
            stderr=subprocess.PIPE,
        )
        os.close(other)
        drawn = bytearray()
        with contextlib.suppress(OSError):  # the other end is closed
            while chunk := os.read(terminal, 65536):
                drawn.extend(chunk)
        os.close(terminal)
        _, errors = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, errors
        return drawn.decode()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = Place(tmp_path_factory.mktemp("site") / "work")
    (place.folder / "trainer.py").write_text(TRAINER)
    place.study("study", SPACE, **SPEC)
    wrong = place.study("wrong", {"lr": [{"kösinus": 1}]}, **SPEC)
    assert wrong.exists()
    place.run("study.yaml")
    yield Site(place)
    place.clean_up()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16", "C locale"])
def test_any_encoding_will_do(site: Site, encoding: str) -> None:
    changed = (
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        if encoding == "C locale"
        else {"PYTHONIOENCODING": encoding}
    )
    for command in COMMANDS if encoding == "ascii" else DRAWN:
        done = site.call(*command, **changed)
        assert done.returncode == 0, (command, done)
        assert done.stdout
    for command in MISTAKES:
        done = site.call(*command, **changed)
        assert done.returncode in (1, 2), (command, done)
        assert done.stderr


def test_what_an_encoding_lacks_is_like_it_or_escaped(site: Site) -> None:
    tree = site.call("tree", "study.yaml", PYTHONIOENCODING="ascii").stdout.decode("ascii")
    assert "+-- ==================== 0>5 2 trials" in tree
    results = site.call("results", "study.yaml", PYTHONIOENCODING="latin-1").stdout
    assert "Güte \\u2713" in results.decode("latin-1")
    wrong = site.call("run", "wrong.yaml", PYTHONIOENCODING="ascii").stderr.decode("ascii")
    assert "hippo: wrong.yaml: spec.space.lr.choices[0]: unknown schedule 'k\\xf6sinus';" in wrong
    assert json.loads(site.call("results", "study.yaml", "-o", "json").stdout)["best"]


@pytest.mark.parametrize("command", [*DRAWN, ["results", "study.yaml", "-o", "json"], ["crds"]])
def test_nobody_reads_it(site: Site, command: list[str]) -> None:
    """As in ``hippo results | head -1``, and with streams that are closed from the start."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [HIPPO, *command],
        cwd=site.place.folder,
        env=site.environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=DEADLINE,
    )
    os.close(writer)
    assert done.returncode == 1
    assert not [line for line in done.stderr.splitlines() if not re.match(r"\d\d:\d\d  ", line)]
    script = 'exec >&- 2>&-; exec "$@"'
    closed = ["bash", "-c", script, "-", HIPPO, *command]
    done = subprocess.run(
        closed, cwd=site.place.folder, env=site.environment(), text=True, timeout=DEADLINE
    )
    assert done.returncode == 0


def test_progress_that_nobody_reads_ends_no_run(site: Site) -> None:
    place = Place(site.place.folder.parent / "unread")
    (place.folder / "trainer.py").write_text(TRAINER)
    place.study("study", SPACE, **SPEC)
    reader, writer = os.pipe()
    os.close(reader)
    process = place.start("run", "study.yaml", "-o", "json", stderr=writer)
    os.close(writer)
    assert len(place.finish(process).json()["trials"]) == 3


@pytest.mark.parametrize("columns", [40, 60, 80])
@pytest.mark.parametrize("command", ["results", "run", "plan", "tree", "simulate", "store"])
def test_narrow_terminals_fold_and_never_cut(site: Site, command: str, columns: int) -> None:
    rest = {"simulate": ["study.yaml", "--workers", "2"], "store": ["ls"]}
    arguments = [command, *rest.get(command, ["study.yaml"])]
    wide = site.call(*arguments, COLUMNS="400").stdout.decode()
    narrow = site.draw(*arguments, columns=columns, NO_COLOR="1")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", narrow).replace("\r", "")
    assert "…" not in plain
    if command != "store":  # the line on a plan is left to the terminal to fold
        assert all(len(line) <= columns for line in plain.splitlines())
    for word in re.findall(r"[\w.@|+-]{3,}", wide):
        if not re.fullmatch(r"[\d.]+x?|until", word):  # times differ; nothing is deleted
            assert word in re.sub(r"\s+", "", plain), word


def test_columns_and_colours_are_as_the_environment_says(site: Site) -> None:
    def width(**changed: str | None) -> int:
        lines = site.call("results", "study.yaml", **changed).stdout.decode().splitlines()
        return max(map(len, lines))

    assert width(COLUMNS="60") <= 60
    assert 60 < width() <= 120
    assert 60 < width(COLUMNS="nonsense") <= 120
    assert width(COLUMNS="0") > 60
    for command in ("results", "tree", "plan"):
        coloured = site.draw(command, "study.yaml", columns=100)
        assert "\x1b[" in coloured
        without = site.draw(command, "study.yaml", columns=100, NO_COLOR="1")
        assert not re.search(r"\x1b\[[0-9;]*3\d", without)  # bold may stay
        assert "\x1b[" not in site.call(command, "study.yaml").stdout.decode()
    forced = site.call("tree", "study.yaml", FORCE_COLOR="1")
    assert b"\x1b[" in forced.stdout
    progress = site.call("run", "study.yaml", FORCE_COLOR="1").stderr
    assert b"\x1b[?25l" not in progress  # drawn over again on terminals only
    assert b"it had ended: all trials have ended" in progress


def test_the_objective_comes_first_with_digits_that_tell(site: Site) -> None:
    done = site.call("run", "study.yaml")
    (best,) = re.findall(r"best of study: study-\d: (.*)", done.stdout.decode())
    assert re.fullmatch(r"Güte ✓ \d\.\d+e-\d\d, aux -?[\d.]+", best), best
    result = site.call("results", "study.yaml", COLUMNS="400").stdout.decode()
    assert f"best of study: {done.stdout.decode().split('best of study: ')[1].splitlines()[0]}" in (
        result
    )
    assert "lr=0.1@0|cosine(initial 0.1, final 0, steps 2)@4" in " ".join(result.split())
    assert "then multistep(initial 0.1, gamma 0.1, milestones [2, 3])" in " ".join(result.split())


def test_results_are_sorted(site: Site) -> None:
    def order(*arguments: str) -> list[str]:
        done = site.call("results", "study.yaml", "-o", "json", "--sort", *arguments)
        return [row["trial"] for row in json.loads(done.stdout)["trials"]]

    document = json.loads(site.call("results", "study.yaml", "-o", "json").stdout)
    metric = SPEC["objective"]["metric"]  # type: ignore[index]
    values = {row["trial"]: row["metrics"][metric] for row in document["trials"]}
    assert order("trial") == list(values)
    assert order("best") == sorted(values, key=values.__getitem__)
    assert order("best")[0] == document["best"]["trial"]
    assert order("best", "--reverse") == order("best")[::-1]
    assert order(metric) == order("best")
    assert order("aux") != []
    assert order("lr")[0] == "study-0"  # numbers before schedules
    done = site.call("results", "study.yaml", "--sort", "bset")
    assert done.returncode == 2
    assert done.stderr.decode().startswith("hippo: --sort: unknown key 'bset'; known: trial, best,")
    assert done.stderr.decode().endswith("; did you mean best?\n")


def test_a_study_comes_from_standard_input(site: Site) -> None:
    place = Place(site.place.folder.parent / "piped")
    (place.folder / "trainer.py").write_text(TRAINER)
    given = (site.place.folder / "study.yaml").read_bytes()
    piped = Site(place)
    result = json.loads(piped.call("run", "-", "-o", "json", given=given).stdout)
    before = json.loads(site.call("results", "study.yaml", "-o", "json").stdout)
    assert result["best"]["metrics"] == before["best"]["metrics"]
    assert (place.folder / ".hippo").is_dir()
    for command in (
        *(["plan", "-"], ["verify", "-"], ["simulate", "-", "--workers", "2"], ["results", "-"]),
        *(["tree", "-"], ["logs", "-"], ["export", "-"], ["store", "rm", "-", ".hippo"]),
    ):
        done = piped.call(*command, given=given)
        assert done.returncode == 0, (command, done)
    wrong = given.replace(b'"steps": 6', b'"stesp": 6')
    done = piped.call("plan", "-", given=wrong)
    assert done.returncode == 2
    errors = done.stderr.decode().splitlines()
    assert errors == [
        "hippo: standard input: spec.steps: is missing",
        "hippo: standard input: spec.stesp: unknown field; did you mean steps?",
    ]
    assert piped.call("plan", "-", given=b"").stderr == b"hippo: standard input: is empty\n"
    assert b"is not UTF-8" in piped.call("plan", "-", given=b"\xff").stderr


def test_the_version_and_the_module(site: Site) -> None:
    assert re.fullmatch(rb"hippo \d+\.\d+\.\d+\n", site.call("--version").stdout)
    done = subprocess.run(
        [sys.executable, "-m", "hippo", "--version"],
        cwd=site.place.folder,
        capture_output=True,
        timeout=DEADLINE,
    )
    assert done.stdout == site.call("--version").stdout


def test_any_trial_is_exported_and_a_slip_is_understood(site: Site) -> None:
    for trial in ("study-2", "2"):
        done = json.loads(site.call("export", "study", trial, "-o", "json").stdout)
        assert (done["trial"], done["file"]) == (
            "study-2",
            str(site.place.folder / "study-2.pt"),
        )
    best = json.loads(site.call("results", "study", "-o", "json").stdout)["best"]["trial"]
    for arguments in ([], ["--best"]):
        done = json.loads(site.call("export", "study", *arguments, "-o", "json").stdout)
        assert (done["trial"], Path(done["file"]).name) == (best, "study-best.pt")
    for arguments, said in (
        (["results", "stduy"], b"has no study 'stduy' in default: run it first; did you mean stud"),
        (["run", "sutdy.yaml"], b"hippo: sutdy.yaml: no such file; did you mean study.yaml?"),
        (["export", "study", "study-7"], b"study has no trial 'study-7': they are study-0 to "),
        (["reslts", "study"], b"Did you mean 'results'?"),
        (["run", "study.yaml", "--worker", "2"], b"--workers"),
    ):
        failed = site.call(*arguments)
        assert failed.returncode in (1, 2)
        assert said in failed.stderr, failed.stderr


def test_a_trial_whose_checkpoint_is_gone_is_named(site: Site) -> None:
    place = Place(site.place.folder.parent / "best-only")
    (place.folder / "trainer.py").write_text(TRAINER)
    place.study("study", SPACE, **{**SPEC, "checkpoints": {"retain": "best"}})
    best = place.run("study.yaml")["best"]["trial"]
    other = next(name for name in ("study-0", "study-1") if name != best)
    (error,) = place.call("export", "study", other, status=2).errors
    assert error == (
        f"{other}: its checkpoint at step 6 is not kept: there are those of {best};"
        " spec.checkpoints.retain: all keeps those of all trials"
    )
