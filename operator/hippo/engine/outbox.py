"""The outbox: commands that follow from one event, in the order in which drivers carry them out."""

from __future__ import annotations

from hippo.engine.commands import Command


class Outbox:
    """Every part of the engine emits into the same outbox, so order is the order of emission."""

    def __init__(self) -> None:
        self._commands: list[Command] = []

    def emit(self, command: Command) -> None:
        self._commands.append(command)

    def clear(self) -> None:
        """Forget what an event has left that was not taken to its end."""
        self._commands = []

    def take(self) -> list[Command]:
        """Returns all commands since the last call, and leaves none."""
        commands, self._commands = self._commands, []
        return commands
