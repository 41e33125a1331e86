"""Storage of checkpoints, reports and decisions: the Blobs port and the records above it."""

from hippo.store.blobs import (
    STALE_SECONDS,
    BlobInfo,
    Blobs,
    CorruptCheckpoint,
    LinkInside,
    MissingBlob,
    StoreError,
    Unreadable,
)
from hippo.store.catalog import (
    PlanSizes,
    StoredStudy,
    find_studies,
    list_plans,
    list_study_names,
    measure,
    plan_path,
)
from hippo.store.directory import DirectoryBlobs
from hippo.store.encoding import NewerFormat, reading
from hippo.store.loading import RESTORE, PlanRecords
from hippo.store.lock import Holder, LockHeld, LockLost, PlanLock
from hippo.store.plan_store import PlanStore
from hippo.store.urls import locate_store, open_blobs

__all__ = [
    "RESTORE",
    "STALE_SECONDS",
    "BlobInfo",
    "Blobs",
    "CorruptCheckpoint",
    "DirectoryBlobs",
    "Holder",
    "LinkInside",
    "LockHeld",
    "LockLost",
    "MissingBlob",
    "NewerFormat",
    "PlanLock",
    "PlanRecords",
    "PlanSizes",
    "PlanStore",
    "StoreError",
    "StoredStudy",
    "Unreadable",
    "find_studies",
    "list_plans",
    "list_study_names",
    "locate_store",
    "measure",
    "open_blobs",
    "plan_path",
    "reading",
]
