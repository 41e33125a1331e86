"""The engine: events in, commands out. It is pure: no clock, no I/O."""

from hippo.engine.engine import Engine

__all__ = ["Engine"]
