"""What a stage pod says of keys that its namespace's Secret holds, and what a study says then."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hippo.kube import names
from hippo.kube.pods.state import Cause, observe
from hippo.protocol.assignments import Assignment, Route, TrainerCall
from hippo.protocol.reports import Outcome
from stage_runner.termination import EXIT_CODES
from tests.minio_server import BUCKET, MinioServer


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "refuses the credentials (InvalidAccessKeyId)"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong-word"}, "(SignatureDoesNotMatch): check AWS_ACCESS_KEY"),
        ({"AWS_SESSION_TOKEN": "wrong-word"}, "refuses the credentials"),
        ({"AWS_ACCESS_KEY_ID": ""}, "AWS_ACCESS_KEY_ID is empty: set both"),
        ({"AWS_SECRET_ACCESS_KEY": "\n"}, "AWS_SECRET_ACCESS_KEY is empty: set both"),
        ({"AWS_SESSION_TOKEN": "wrong-word\nx"}, "AWS_SESSION_TOKEN holds a line break"),
    ],
)
def test_a_pod_ends_with_a_line_that_its_study_repeats(
    minio: MinioServer, tmp_path: Path, keys: dict[str, str], says: str
) -> None:
    assignment = Assignment(
        chain="r1-00001",
        signature="0" * 64,
        trainer=TrainerCall(entrypoint="trainer:Trainer"),
        route=Route(hyperparameters={"lr": 0.1}, steps=1, stop_at=1),
        studies=("a",),
    )
    path = tmp_path / "assignment.json"
    path.write_text(assignment.model_dump_json())
    (tmp_path / "trainer.py").write_text("class Trainer: pass\n")
    command = [sys.executable, "-u", "-m", "stage_runner", "run", "--assignment", str(path)]
    command += ["--store", f"s3://{BUCKET}/keys", "--plan", "default/plan"]
    settings = {**minio.settings, "HIPPO_S3_PATIENCE": "1", "HOME": str(tmp_path), **keys}
    done = subprocess.run(
        command,
        env={**os.environ, **settings},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == EXIT_CODES[Outcome.STORE], done.stderr
    assert "Traceback" not in done.stderr
    assert "wrong-word" not in done.stdout + done.stderr
    # As the kubelet takes it over from a log.
    ended = {"exitCode": done.returncode, "reason": "Error", "message": done.stderr[-2048:]}
    container = {"name": names.TRAINER_CONTAINER, "state": {"terminated": ended}}
    state = observe(
        {
            "metadata": {"name": "p", "namespace": "research"},
            "status": {"phase": "Failed", "containerStatuses": [container]},
        }
    )
    assert state.cause is Cause.STORE
    assert says in state.message
    assert "the Secret hippo-store in namespace research" in state.message
