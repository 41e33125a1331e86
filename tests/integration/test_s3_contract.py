"""A bucket keeps the contract of all stores, and the lock holds there."""

from __future__ import annotations

import pytest

from tests.unit.store.blobs_contract import BlobsContract


class TestS3Blobs(BlobsContract):
    @pytest.fixture
    def url(self, s3_url: str) -> str:
        return s3_url
