"""Settings of a store on S3, from its URL and the environment variables that S3 users know.

Everything is validated here, once: errors name the variable before any request is sent. Hippo's own
settings hold no secrets: see ``s3.keys``.
"""

from __future__ import annotations

import math
import os
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field

from minio.credentials import providers
from minio.helpers import BaseURL

from hippo.store.blobs import StoreError, check_name
from hippo.store.given import mask, read_first, read_text
from hippo.store.s3.keys import find_provider
from hippo.store.s3.network import Proxies, find_bundle, read_proxies

AWS_ENDPOINT = "https://s3.amazonaws.com"
PATIENCE_SECONDS = 30.0
"""How long failing requests are retried. Shorter than PlanLock's time, so that a driver whose store
recovers in time still holds its plan.
"""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_PATIENCE = "HIPPO_S3_PATIENCE"


@dataclass(frozen=True, slots=True)
class S3Settings:
    bucket: str
    prefix: str  # of all keys: "" or ends with a slash
    host: str  # with the port, unless it is the default one
    is_secure: bool
    region: str | None  # None: ask the server
    provider: providers.Provider = field(repr=False)
    certificates: str | None = None  # path of a bundle; None: those that browsers trust
    proxies: Proxies = field(default_factory=Proxies)
    patience: float = PATIENCE_SECONDS

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.is_secure else 'http'}://{self.host}"

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


def read_settings(url: str, environment: Mapping[str, str] = os.environ) -> S3Settings:
    """Reads the settings for ``s3://bucket/prefix``, without any request. Raises StoreError."""
    bucket, prefix = _read_url(url)
    host, is_secure, region = _read_place(environment)
    bundle = find_bundle(environment)
    proxies = read_proxies(environment)
    proxies.find(f"{'https' if is_secure else 'http'}://{host}")  # raises if it is invalid
    return S3Settings(
        bucket=bucket,
        prefix=prefix,
        host=host,
        is_secure=is_secure,
        region=region,
        provider=find_provider(environment, region=region, bundle=bundle, proxies=proxies),
        certificates=bundle,
        proxies=proxies,
        patience=_read_patience(environment),
    )


def _read_url(url: str) -> tuple[str, str]:
    """Returns bucket and prefix."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        parts = urllib.parse.SplitResult("s3", "", "", "", "")
    if not _BUCKET.fullmatch(parts.netloc) or parts.query or parts.fragment:
        raise StoreError(f"{mask(url)}: write s3://bucket/prefix, the bucket as S3 names it")
    prefix = parts.path.strip("/")
    try:
        return parts.netloc, check_name(prefix) + "/" if prefix else ""
    except ValueError:
        raise StoreError(
            f"{mask(url)}: a prefix is of letters, digits, '.', '_', '-' between slashes"
        ) from None


def _read_place(environment: Mapping[str, str]) -> tuple[str, bool, str | None]:
    """Returns host, whether it is secure, and region."""
    name, endpoint = read_first(environment, *_ENDPOINTS) or ("", AWS_ENDPOINT)
    endpoint = endpoint.rstrip("/")
    try:
        parts = urllib.parse.urlsplit(endpoint)
        if not _HOST.fullmatch(parts.netloc) or parts.scheme not in ("http", "https"):
            raise ValueError
        BaseURL(endpoint, None)
    except ValueError:
        raise StoreError(
            f"{name} is no address: write http://host:port or https://host:port, and nothing behind"
        ) from None
    # Most stores other than AWS have one region and ignore its name.
    region = None if endpoint == AWS_ENDPOINT else "us-east-1"
    told = read_first(environment, *_REGIONS)
    if told is not None:
        name, region = told
        try:
            BaseURL(endpoint, region)
        except ValueError:
            raise StoreError(f"{name} is no region: write one such as us-east-1") from None
    return parts.netloc, parts.scheme == "https", region


def _read_patience(environment: Mapping[str, str]) -> float:
    text = read_text(environment, _PATIENCE)
    if text is None:
        return PATIENCE_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.1 <= seconds <= 3600.0:
        raise StoreError(f"{_PATIENCE} is {text!r}: give seconds between 0.1 and 3600")
    return seconds
