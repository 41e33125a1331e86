"""Pretends that this is a system on which a process must not fork once libraries are loaded."""

from __future__ import annotations

import sys

from plain import PlainTrainer

sys.platform = "elsewhere"

__all__ = ["PlainTrainer"]
