"""Opens a store by its URL or path, as given to ``--store``."""

from __future__ import annotations

import os
import re
import urllib.parse

from hippo.store.blobs import Blobs, StoreError
from hippo.store.directory import DirectoryBlobs
from hippo.store.given import mask

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def open_blobs(url: str) -> Blobs:
    """Returns the store at a path, ``file:///path`` or ``s3://bucket/prefix``; no access yet.

    S3 settings come from the environment: see ``s3.settings``. Raises StoreError.
    """
    if not url or "\0" in url:
        raise StoreError("--store is empty: give a directory, such as .hippo")
    match = _SCHEME.match(url)
    if match is None:
        return DirectoryBlobs(os.path.expanduser(url))
    scheme = match[1].lower()
    if scheme == "s3":
        # Imported here, because it takes half a second that other stores need not spend.
        from hippo.store.s3.bucket import S3Blobs
        from hippo.store.s3.settings import read_settings

        return S3Blobs(read_settings(url))
    if scheme != "file":
        raise StoreError(
            f"{mask(url)}: a store is a directory, file:///path or s3://bucket/prefix, not {scheme}://"
        )
    parts = urllib.parse.urlsplit(url)
    path = urllib.parse.unquote(parts.path)
    if parts.netloc not in ("", "localhost") or path in ("", "/") or "\0" in path:
        raise StoreError(f"{mask(url)}: write file:///path (three slashes and an absolute path)")
    return DirectoryBlobs(path)


def locate_store(url: str) -> str:
    """Returns the store's URL or absolute path, valid in any working directory.

    Raises StoreError.
    """
    blobs = open_blobs(url)
    return str(blobs) if isinstance(blobs, DirectoryBlobs) else url
