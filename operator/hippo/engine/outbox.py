"""The outbox: commands that follow from one event, in the order of execution."""

from __future__ import annotations

from hippo.engine.commands import Command


class Outbox:
    """Collects commands in the order in which the engine's parts emit them."""

    def __init__(self) -> None:
        self._commands: list[Command] = []

    def emit(self, command: Command) -> None:
        self._commands.append(command)

    def clear(self) -> None:
        """Discards commands of an event whose handling was aborted."""
        self._commands = []

    def take(self) -> list[Command]:
        """Returns all commands since the last call, and clears them."""
        commands, self._commands = self._commands, []
        return commands
