"""``hippo export``: writes a trial's checkpoint as a file for other programs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from hippo.cli.arguments import NamedNamespaceOption, StoreOption, StudyArgument, find_named
from hippo.cli.render.output import Output, OutputOption, open_console, print_json
from hippo.model import InvalidSpec
from hippo.store import StoreError
from hippo.views.stored_study import Named, Replayed, find_trial, replay


@dataclass(frozen=True, slots=True)
class _Found:
    """The checkpoint to write."""

    trial: str
    step: int
    key: str


def export(
    study: StudyArgument,
    trial: Annotated[
        str | None,
        typer.Argument(
            help="A trial's name or number. Default: the best trial.", show_default=False
        ),
    ] = None,
    best: Annotated[
        bool, typer.Option("--best", help="Export the best trial; the default.")
    ] = False,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            help="File to write: .pt for PyTorch, .npz for NumPy, .safetensors for the tensors of"
            " the model. Default: NAME-best.pt, or TRIAL.pt.",
            show_default=False,
        ),
    ] = None,
    keep_names: Annotated[
        bool,
        typer.Option(
            "--keep-names",
            help="Keep the prefixes of torch.compile (_orig_mod.) and DataParallel (module.).",
        ),
    ] = False,
    store: StoreOption = None,
    namespace: NamedNamespaceOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Write a trial's last checkpoint as a PyTorch, NumPy or safetensors file."""
    if best and trial is not None:
        raise InvalidSpec.at("export", f"say which: --best or {trial}")
    named = find_named(study, store, namespace)
    found = _find_best(named) if trial is None else _find_trial(named, trial)
    default = f"{named.name}-best.pt" if trial is None else f"{found.trial}.pt"
    target = (file if file is not None else Path(default)).resolve()
    command = [sys.executable, "-m", "stage_runner", "export", "--store", named.store.url]
    command += ["--plan", named.found[0].plan, "--key", found.key, "--output", str(target)]
    command += ["--about", f"{found.trial} at step {found.step}"]
    _run_quietly([*command, *(["--keep-names"] if keep_names else [])])
    if output is Output.JSON:
        told = {"study": named.name, "trial": found.trial, "step": found.step, "file": str(target)}
        print_json(told)
    else:
        open_console().print(
            f"{found.trial} at step {found.step} is written to {target}",
            soft_wrap=True,
        )


def _find_best(named: Named) -> _Found:
    """Return the best trial's checkpoint, which the study's document names."""
    document: dict[str, Any] = named.found[0].document
    status = document.get("status") or {}
    trial, step, key = (status.get(name) for name in ("best", "bestStep", "bestKey"))
    if trial is None or step is None or key is None:
        raise StoreError(f"study {named.name} has no result yet: run it first")
    if document["study"]["spec"].get("checkpoints", {}).get("retain") == "none":
        raise InvalidSpec.at(
            named.name, "keeps no checkpoint: set spec.checkpoints.retain to best in another study"
        )
    return _Found(f"{named.name}-{trial}", step, key)


def _find_trial(named: Named, wanted: str) -> _Found:
    """Raise InvalidSpec if there is no such trial, or its checkpoint is not kept."""
    replayed = replay(named)
    trial = find_trial(replayed, wanted, "export")
    name = trial.name
    if trial.latest is None or trial.latest_key is None:
        raise InvalidSpec.at(name, "has no result yet, so there is no checkpoint to export")
    step = trial.latest[0]
    if trial.latest_key not in replayed.records.manifests:
        missing = f"its checkpoint at step {step} is not kept: {_remedy(replayed)}"
        raise InvalidSpec.at(name, missing)
    return _Found(name, step, trial.latest_key)


def _remedy(replayed: Replayed) -> str:
    kept = [
        trial.name
        for trial in replayed.run.trials
        if trial.latest_key is not None and trial.latest_key in replayed.records.manifests
    ]
    retain = replayed.study.spec.checkpoints.retain
    there = f"there are those of {', '.join(kept[:10])}" if kept else "there is none"
    if len(kept) > 10:
        there += f" and {len(kept) - 10} more"
    advice = "" if retain == "all" else "; spec.checkpoints.retain: all keeps those of all trials"
    return there + advice


def _run_quietly(command: list[str]) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        done = subprocess.run(
            command, stderr=errors, stdout=subprocess.DEVNULL, env=environment, check=False
        )
        if done.returncode:
            errors.seek(0)
            lines = errors.read().strip().splitlines()
            told = lines[-1] if lines else "the export failed and did not say why"
            raise StoreError(told)
