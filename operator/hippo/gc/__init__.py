"""Garbage collection: what a store keeps, for which study, and what may be removed.

``hippo.engine.retention`` decides what active studies need; this package, what remains of the
others.
"""

from hippo.gc.collector import Collection, collect
from hippo.gc.deletion import delete_study, forget_missing
from hippo.gc.eviction import Stored, choose_evictions
from hippo.gc.inventory import Inventory, build_inventory, read_inventory
from hippo.gc.listing import PlanListing, StudyListing, list_store
from hippo.gc.retention_policy import Intent, Scope, read_intent
from hippo.gc.sweeper import Swept, sweep

__all__ = [
    "Collection",
    "Intent",
    "Inventory",
    "PlanListing",
    "Scope",
    "Stored",
    "StudyListing",
    "Swept",
    "build_inventory",
    "choose_evictions",
    "collect",
    "delete_study",
    "forget_missing",
    "list_store",
    "read_intent",
    "read_inventory",
    "sweep",
]
