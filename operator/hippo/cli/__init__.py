"""The command line. Errors that a user can fix are one clear line, never a traceback."""

from __future__ import annotations

import sys

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> None:
    """Entry point of ``hippo``. The exit status is 0 only if everything succeeded."""
    try:
        status = _run(arguments)
    except KeyboardInterrupt:
        from hippo.cli.render.output import complain

        complain("interrupted")
        status = EXIT_INTERRUPTED
    sys.exit(status)


def _run(arguments: list[str] | None) -> int:
    # Imported here, because the import is slow, and Ctrl-C may come meanwhile.
    from hippo.cli.app import app
    from hippo.cli.render.output import complain, prepare_streams
    from hippo.lifecycles import StudyFault
    from hippo.local import RunStopped, WorkersFailed
    from hippo.model import InvalidSpec
    from hippo.store import StoreError

    prepare_streams()
    try:
        app(arguments)  # raises SystemExit, also after a wrong option or a closed pipe
    except InvalidSpec as error:
        for line in str(error).splitlines():
            complain(line)
        return EXIT_BAD_INPUT
    except (StoreError, StudyFault, WorkersFailed, RunStopped) as error:
        complain(str(error))
        return EXIT_FAILED
    except OSError as error:  # standard output is full, a study's folder cannot be read, ...
        named = f"{error.filename}: " if error.filename else ""
        complain(f"{named}{error.strerror or error}")
        return EXIT_FAILED
    return 0


__all__ = ["main"]
