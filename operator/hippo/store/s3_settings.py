"""What a store on S3 needs to know: from its URL, and from the environment that users of S3 know.

Nothing of Hippo's own holds a secret: keys come from the environment, from the credentials file of
the AWS tools, or from the role of the machine or pod, by the providers of the ``minio`` package.
"""

from __future__ import annotations

import configparser
import os
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field

import certifi
import urllib3
from minio.credentials import credentials, providers
from minio.helpers import BaseURL

from hippo.store.blobs import StoreError, check_name

AWS_ENDPOINT = "https://s3.amazonaws.com"
PATIENCE_SECONDS = 30.0
"""How long failing requests are tried again; below PlanLock's time, so that a driver whose store
comes back in time still holds its plan.
"""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_PATIENCE = "HIPPO_S3_PATIENCE"


class MissingCredentials(Exception):
    """Nobody has keys for us."""


class _Provider(providers.Provider):
    """The first that has keys: the credentials file, a web identity, the machine's role."""

    def __init__(self, *, asks_network: bool) -> None:
        chain: list[providers.Provider] = [providers.AWSConfigProvider()]
        if asks_network:
            quickly = urllib3.PoolManager(timeout=urllib3.Timeout(1.0, 3.0), retries=1)
            chain.append(providers.IamAwsProvider(http_client=quickly))
        self._chain = providers.ChainedProvider(chain)

    def retrieve(self) -> credentials.Credentials:
        try:
            return self._chain.retrieve()
        except (ValueError, OSError, configparser.Error, urllib3.exceptions.HTTPError) as error:
            raise MissingCredentials from error


@dataclass(frozen=True, slots=True)
class S3Settings:
    bucket: str
    prefix: str  # of all keys: "" or ends with a slash
    host: str  # with the port, if it is not the usual one
    is_secure: bool
    region: str | None  # None: asked of the server
    provider: providers.Provider = field(repr=False)
    certificates: str  # path of a bundle
    patience: float = PATIENCE_SECONDS

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.is_secure else 'http'}://{self.host}"

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


def read_settings(url: str, environment: Mapping[str, str] = os.environ) -> S3Settings:
    """The settings for ``s3://bucket/prefix``. Asks nobody. Raises StoreError."""
    parts = urllib.parse.urlsplit(url)
    if not _BUCKET.fullmatch(parts.netloc) or parts.query or parts.fragment:
        raise StoreError(f"{url}: write s3://bucket/prefix, the bucket as S3 names it")
    prefix = parts.path.strip("/")
    try:
        prefix = check_name(prefix) + "/" if prefix else ""
    except ValueError:
        raise StoreError(
            f"{url}: a prefix is of letters, digits, '.', '_', '-' between slashes"
        ) from None
    endpoint = _first(environment, _ENDPOINTS) or AWS_ENDPOINT
    host, is_secure = _read_endpoint(endpoint)
    bundle = environment.get("AWS_CA_BUNDLE") or environment.get("SSL_CERT_FILE")
    if bundle and not os.path.isfile(bundle):
        raise StoreError(
            f"there is no file {bundle}: set AWS_CA_BUNDLE to a bundle of certificates"
        )
    # Stores other than AWS mostly have one region and do not look at its name.
    region = _first(environment, _REGIONS) or (None if endpoint == AWS_ENDPOINT else "us-east-1")
    return S3Settings(
        bucket=parts.netloc,
        prefix=prefix,
        host=host,
        is_secure=is_secure,
        region=region,
        provider=_find_provider(environment),
        certificates=bundle or certifi.where(),
        patience=_read_patience(environment),
    )


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((environment[name] for name in names if environment.get(name)), None)


def _read_endpoint(endpoint: str) -> tuple[str, bool]:
    try:
        parts = urllib.parse.urlsplit(endpoint.rstrip("/"))
        if "@" in parts.netloc or parts.scheme not in ("http", "https"):
            raise ValueError
        BaseURL(endpoint.rstrip("/"), None)
    except ValueError:
        raise StoreError(
            "AWS_ENDPOINT_URL is no address: write http://host:port or https://host:port"
        ) from None
    return parts.netloc, parts.scheme == "https"


def _find_provider(environment: Mapping[str, str]) -> providers.Provider:
    key, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        return providers.StaticProvider(key, secret, environment.get("AWS_SESSION_TOKEN"))
    if key or secret:
        raise StoreError("set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or neither")
    is_disabled = environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
    return _Provider(asks_network=not is_disabled)


def _read_patience(environment: Mapping[str, str]) -> float:
    text = environment.get(_PATIENCE)
    if not text:
        return PATIENCE_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600.0:
        raise StoreError(f"{_PATIENCE} is {text!r}: give seconds between 0.1 and 3600")
    return seconds
