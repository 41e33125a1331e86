"""A bucket keeps the contracts of all stores."""

from __future__ import annotations

import pytest

from tests.unit.store.blobs_contract import BlobsContract
from tests.unit.store.lock_contract import LockContract
from tests.unit.store.plan_contract import PlanContract


class _OnS3:
    @pytest.fixture
    def url(self, s3_url: str) -> str:
        return s3_url


class TestBlobsOnS3(_OnS3, BlobsContract):
    pass


class TestLockOnS3(_OnS3, LockContract):
    pass


class TestPlanOnS3(_OnS3, PlanContract):
    pass
