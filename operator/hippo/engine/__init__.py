"""The engine: events in, commands out. Pure: no clock, no I/O."""

from hippo.engine.engine import Engine

__all__ = ["Engine"]
