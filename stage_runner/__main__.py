"""``python -m stage_runner``: the worker (run, serve), and other commands that need the trainer."""

from __future__ import annotations

import os
import signal
import sys
import time

_LAUNCHED = time.monotonic()  # before the imports below, which belong to a worker's start-up
_HASH_SEED = "0"
_TOLD_TO_LEAVE = 128 + signal.SIGTERM

if os.getpid() == 1:
    # The first process of a container gets no signal that it does not handle. Until the worker
    # handles SIGTERM itself there is nothing to save; without this handler it would train until it
    # is killed.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(_TOLD_TO_LEAVE))

_IS_WORKER = __name__ == "__main__" and sys.argv[1:2] in (["run"], ["serve"])
if _IS_WORKER and os.environ.get("PYTHONHASHSEED") != _HASH_SEED:
    # All workers must order sets of texts alike. Python fixes the order when it starts.
    os.environ["PYTHONHASHSEED"] = _HASH_SEED
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves

import argparse  # noqa: E402
import faulthandler  # noqa: E402
from pathlib import Path  # noqa: E402

from hippo.protocol.reports import Outcome  # noqa: E402
from hippo.store import PlanStore, StoreError, open_blobs  # noqa: E402
from hippo.store.blobs import is_name  # noqa: E402
from stage_runner.failures import say  # noqa: E402
from stage_runner.termination import EXIT_CODES  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m stage_runner", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def add(
        name: str, run: object, text: str, *, store: bool = True, plan: bool = True
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        if store:
            command.add_argument("--store", required=True, metavar="URL", help="store of the plan")
        if store and plan:
            command.add_argument("--plan", required=True, help="name of the plan")
        return command

    run = add("run", _run, "Carry out one assignment, then exit.")
    run.add_argument(
        "--assignment", required=True, metavar="FILE", help="JSON; - reads it from stdin"
    )
    run.add_argument("--hints", type=int, metavar="FD", help="pipe to write progress to")
    run.add_argument("--pulse", type=int, metavar="FD", help=argparse.SUPPRESS)
    run.add_argument(
        "--server", type=int, metavar="FD", help="pipe; exit when its other end is closed"
    )
    serve = add(
        "serve", _serve, "Launch chains on request: JSON lines on stdin and stdout.", plan=False
    )
    serve.add_argument("--threads", type=int, default=1, help="CPU threads of each chain")
    serve.add_argument("--patience", type=float, default=100.0, help=argparse.SUPPRESS)
    serve.add_argument("--preload", metavar="MODULE", help="imported once, for all chains")
    verify = add("verify", _verify, "Check that a trainer is exact.", store=False)
    verify.add_argument("--study-json", required=True, type=Path, metavar="FILE")
    verify.add_argument("--digests", action="store_true", help=argparse.SUPPRESS)
    export = add("export", _export, "Write a checkpoint as a file that other programs read.")
    export.add_argument("--key", required=True, help="content key of the checkpoint")
    export.add_argument("--output", required=True, type=Path, metavar="FILE")
    export.add_argument("--about", default="", help="the trial, for formats with metadata")
    export.add_argument(
        "--keep-names", action="store_true", help="keep the names that wrappers add"
    )
    for command in (run, serve, verify):
        command.add_argument(
            "--path",
            type=Path,
            default=Path(),
            metavar="DIR",
            help="folder of the trainer's module",
        )
    parsed = parser.parse_args(arguments)
    for option in ("plan", "key"):
        given = getattr(parsed, option, None)
        if given is not None and not is_name(given):
            say(f"--{option} {given!r}: cannot be the name of a {option} in a store")
            return EXIT_CODES[Outcome.INVALID]
    try:
        return int(parsed.run(parsed))
    except StoreError as error:
        say(str(error))
        return EXIT_CODES[Outcome.STORE]


def _run(parsed: argparse.Namespace) -> int:
    from stage_runner.worker import end_process, open_store, run_worker

    faulthandler.enable()
    status = run_worker(
        parsed.assignment,
        open_store(parsed.store, parsed.plan),
        path=parsed.path.resolve(),
        launched=_LAUNCHED,
        hints=parsed.hints,
        pulse=parsed.pulse,
        server=parsed.server,
    )
    end_process(status)


def _serve(parsed: argparse.Namespace) -> int:
    from stage_runner.fork_server import serve

    return serve(
        store=parsed.store,
        path=parsed.path.resolve(),
        threads=parsed.threads,
        preload=parsed.preload,
        patience=parsed.patience,
    )


def _verify(parsed: argparse.Namespace) -> int:
    from stage_runner.verify import main as verify

    return verify(parsed.study_json, path=parsed.path.resolve(), only_digests=parsed.digests)


def _export(parsed: argparse.Namespace) -> int:
    from stage_runner.export import Request, export

    store = PlanStore(open_blobs(parsed.store), parsed.plan)
    return export(store, Request(parsed.key, parsed.output, parsed.about, parsed.keep_names))


if __name__ == "__main__":
    sys.exit(main())
