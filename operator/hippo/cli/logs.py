"""What workers wrote: files of this machine's workers, or the logs of a cluster's pods."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, BinaryIO

from hippo.cli.arguments import find_named, is_file_name, locate_studies
from hippo.cli.render.output import LogOutput, complain
from hippo.kube import names
from hippo.kube.pods.state import PodPhase, observe
from hippo.model.foreign import as_line
from hippo.store import LockHeld, PlanLock, PlanStore, StoreError, folders
from hippo.views.stored_study import Named, find_chains, find_trial, replay

LOCAL_LOGS = ".hippo-logs"
"""Beside a study whose store is no folder."""
_POLL_SECONDS = 0.3
_READ = 1 << 16


def show(
    study: str,
    *,
    trial: str | None,
    follow: bool,
    tail: int | None,
    store: str | None,
    namespace: str | None,
) -> None:
    """Raises StoreError if there is nothing to show, and InvalidSpec."""
    named, why = _find(study, store, namespace)
    chains = _chains_of(named, trial) if trial is not None else None
    folder = _find_folder(named, study) if named is not None else None
    if named is not None and folder is not None:
        _show_files(named, folder, chains, follow=follow, tail=tail)
        return
    name, namespace = (named.name, named.namespace) if named else _identify(study, namespace)
    _show_pods(name, namespace, chains, follow=follow, tail=tail, why=why)


def _find(study: str, store: str | None, namespace: str | None) -> tuple[Named | None, str]:
    """The study in its store, or why not: a cluster's store may be out of reach from here."""
    try:
        return find_named(study, store, namespace), ""
    except StoreError as error:
        return None, str(error)


def _identify(study: str, namespace: str | None) -> tuple[str, str | None]:
    if not is_file_name(study):
        return study, namespace
    (located,) = locate_studies([Path(study)])
    return located.study.name, namespace or located.study.namespace


def _chains_of(named: Named | None, trial: str) -> set[str]:
    if named is None:
        raise StoreError(
            "--trial needs the study's store, which tells who trained the trial: say --store"
        )
    replayed = replay(named)
    return find_chains(replayed, find_trial(replayed, trial, "--trial"))


# -- of this machine -------------------------------------------------------------------------------


def _find_folder(named: Named, study: str) -> Path | None:
    """Where this machine's workers of the study's plan have written, if there were any."""
    if "://" in named.store.url:
        path = Path(study)
        root = (path.resolve().parent if path.is_file() else Path.cwd()) / LOCAL_LOGS
    else:
        root = Path(named.store.url) / "logs"
    folder = root / named.found[0].plan
    return folder if folder.is_dir() else None


def _open(file: Path) -> BinaryIO:
    """A log; no link below the folder that the logs' own lies in is followed. Raises StoreError."""
    try:
        return open(folders.open_within(file.parents[3], file, os.O_RDONLY), "rb")
    except OSError as error:
        raise StoreError(f"cannot read {file}: {error.strerror}") from None


def _show_files(
    named: Named, folder: Path, chains: set[str] | None, *, follow: bool, tail: int | None
) -> None:
    output = LogOutput()
    files = _list_files(folder, chains)
    if not files and not follow:
        raise StoreError(f"no worker has written a log in {folder}")
    if not follow:
        odd: list[StoreError] = []
        for file in files:
            try:
                _copy(file, output, tail=tail, head=_head(file.stem), is_headed=True)
            except StoreError as error:  # it hides no other
                odd.append(error)
        for other in odd[:-1]:
            complain(str(other))
        if odd:
            raise odd[-1]
        return
    store = PlanStore(named.store.blobs, named.found[0].plan)
    _follow_files(store, folder, chains, tail, output)


def _list_files(folder: Path, chains: set[str] | None) -> list[Path]:
    """The newest first."""
    found: list[tuple[float, str, Path]] = []
    for file in folder.glob("*.log"):
        if chains is None or file.stem in chains:
            with contextlib.suppress(FileNotFoundError):
                found.append((-file.lstat().st_mtime, file.name, file))
    return [file for _, _, file in sorted(found)]


def _follow_files(
    store: PlanStore, folder: Path, chains: set[str] | None, tail: int | None, output: LogOutput
) -> None:
    """Until nobody works on the plan any more."""
    shown: dict[Path, int] = {}
    odd: set[Path] = set()
    last: Path | None = None

    def copy(file: Path, begin: int, tail: int | None = None) -> int:
        try:
            head = b"" if file == last else _head(file.stem)
            return _copy(file, output, begin, tail=tail, head=head)
        except StoreError as error:  # it hides no other
            if file not in odd:
                complain(str(error))
            odd.add(file)
            return begin

    for file in reversed(_list_files(folder, chains)):
        shown[file] = copy(file, 0, tail)
        if shown[file] and tail != 0:
            last = file
    while True:
        is_over = not _is_in_use(store)  # asked first: what is written before is still shown
        for file in reversed(_list_files(folder, chains)):
            before = shown.get(file, 0)
            shown[file] = copy(file, before)
            if shown[file] != before:
                last = file
        if is_over:
            return
        time.sleep(_POLL_SECONDS)


def _is_in_use(store: PlanStore) -> bool:
    try:
        PlanLock(store).check()
    except LockHeld:
        return True
    return False


def _copy(
    file: Path,
    output: LogOutput,
    begin: int = 0,
    *,
    tail: int | None = None,
    head: bytes = b"",
    is_headed: bool = False,
) -> int:
    """Show a log from a byte on, or its last lines, as it is now; returns its size.

    ``head`` comes before it, if there is any of it or ``is_headed``. One that has become shorter is
    shown anew. A log may be larger than memory. Raises StoreError.
    """
    with _open(file) as log:
        size = os.fstat(log.fileno()).st_size
        begin = begin if begin <= size else 0
        begin = begin if tail is None else _find_tail(log, size, tail)
        if is_headed and begin == size:
            output.write(head)
        log.seek(begin)
        while begin < size and (data := log.read(min(_READ, size - begin))):
            output.write(head + data)
            begin, head = begin + len(data), b""
        return begin


def _find_tail(log: BinaryIO, size: int, lines: int) -> int:
    """Where the last lines begin, in bytes."""
    end, missing = size, lines
    while end > 0 and lines > 0:
        begin = max(0, end - _READ)
        log.seek(begin)
        block = log.read(end - begin)
        at = len(block) - (end == size)  # a line break that ends the file begins no line
        while (at := block.rfind(b"\n", 0, max(0, at))) >= 0:
            missing -= 1
            if not missing:
                return begin + at + 1
        end = begin
    return 0 if lines > 0 else size


# -- of a cluster ----------------------------------------------------------------------------------


def _show_pods(
    study: str,
    namespace: str | None,
    chains: set[str] | None,
    *,
    follow: bool,
    tail: int | None,
    why: str,
) -> None:
    not_here = why or f"study {study} has no logs on this machine"
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise StoreError(f"{not_here}; and kubectl, for those of a cluster, is not installed")
    scope = ["-n", namespace] if namespace else []
    selector = f"{names.LABEL_ASKER_PREFIX}{study}"
    if chains is not None:
        selector += f",{names.LABEL_CHAIN} in ({','.join(sorted(chains))})"
    try:
        pods = [] if chains == set() else _list_pods(kubectl, [*scope, "-l", selector])
    except StoreError as error:
        raise StoreError(f"{not_here}; and {error}") from None
    if not pods:
        where = f"namespace {namespace}" if namespace else "kubectl's namespace"
        raise StoreError(
            f"{not_here}; and it has no pods in {where}: those that have ended are removed"
        )
    output = LogOutput()
    options = ["-c", names.TRAINER_CONTAINER, *(["--tail", str(tail)] if tail is not None else [])]
    if follow:
        _show_waiting(pods)
        running = [pod for pod in pods if observe(pod).phase is not PodPhase.PENDING]
        if not running:
            raise StoreError("none of its pods has begun yet")
        _run_kubectl(
            [kubectl, "logs", "-f", "--prefix", *scope, "-l", selector, *options]
            + [f"--max-log-requests={len(pods)}"]
            + ([] if tail is not None else ["--tail=-1"]),  # with a selector, it is 10 otherwise
            output,
        )
        return
    for pod in pods:
        name, state = pod["metadata"]["name"], observe(pod)
        told = f"{name}: {state.phase}{f': {state.message}' if state.message else ''}"
        output.write(_head(told))
        if state.phase is not PodPhase.PENDING:
            _run_kubectl([kubectl, "logs", *scope, name, *options], output)


def _list_pods(kubectl: str, options: list[str]) -> list[dict[str, Any]]:
    """The newest first. Raises StoreError with what kubectl complains of."""
    command = [kubectl, "get", "pods", *options, "-o", "json"]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise StoreError(f"kubectl: {lines[-1] if lines else f'exit status {done.returncode}'}")
    pods: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    return sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True)


def _show_waiting(pods: Iterable[dict[str, Any]]) -> None:
    for pod in pods:
        state = observe(pod)
        if state.phase is PodPhase.PENDING and state.message:
            complain(f"{pod['metadata']['name']}: {state.message}")


def _run_kubectl(command: list[str], output: LogOutput) -> None:
    """Pass on its output, made harmless on a terminal, and its complaints under its name."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as kubectl:
        assert kubectl.stdout is not None
        assert kubectl.stderr is not None
        complaints = threading.Thread(target=_pass_on, args=(kubectl.stderr,), daemon=True)
        complaints.start()
        while data := os.read(kubectl.stdout.fileno(), _READ):
            output.write(data)
        complaints.join()


def _pass_on(complaints: IO[bytes]) -> None:
    for line in complaints:
        complain(f"kubectl: {line.decode('utf-8', 'backslashreplace').rstrip()}")


def _head(name: str) -> bytes:
    return f"==> {as_line(name)} <==\n".encode()
