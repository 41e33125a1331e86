"""Network access to S3: trusted certificates, and proxies."""

from __future__ import annotations

import io
import ipaddress
import re
import ssl
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import certifi
import urllib3
from minio.error import MinioException
from urllib3.response import BaseHTTPResponse

from hippo.store.blobs import StoreError
from hippo.store.given import explain_file, read_first, read_text

BUNDLES = ("AWS_CA_BUNDLE", "SSL_CERT_FILE")

MAX_ANSWER = 64 << 20
"""Bytes of an answer that is not a blob. The largest from S3, a page of a listing, has a tenth."""
_BLOCK = 1 << 20  # bytes
_FAILED = 300  # HTTP statuses from here on are failures or redirects

_PORTS = {"http": 80, "https": 443}


class NotS3(MinioException):
    """The server does not answer as S3 does."""


def find_bundle(environment: Mapping[str, str]) -> str | None:
    """Returns the path of the named bundle of certificates, verified; None if unnamed.

    Raises StoreError.
    """
    found = read_first(environment, *BUNDLES)
    if found is None:
        return None
    name, path = found
    open_trust(path, name)
    return path


def open_trust(path: str | None, name: str = BUNDLES[0]) -> ssl.SSLContext:
    """Returns a context that trusts a bundle's certificates; None: those that browsers trust.

    Raises StoreError, which names ``name`` and the path.
    """
    try:
        if path is not None:
            with open(path, "rb"):  # OpenSSL's own message names no reason
                pass
        trust = ssl.create_default_context(cafile=path or certifi.where())
    except ssl.SSLError:
        trust = None
    except FileNotFoundError:
        raise StoreError(
            f"{name}: there is no file {path}: name a bundle of certificates"
        ) from None
    except OSError as error:
        raise StoreError(f"{name}: {path} {explain_file(error)}") from None
    if trust is None or not trust.cert_store_stats()["x509"]:
        raise StoreError(
            f"{name}: {path} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----): name a"
            " bundle of certificates, or convert it: openssl x509 -inform DER -in FILE -out FILE"
        )
    # Private certificate authorities often lack extensions that Python requires since 3.13, and no
    # other client requires.
    trust.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return trust


@dataclass(frozen=True, slots=True)
class Proxy:
    """A server through which requests are sent."""

    variable: str
    address: str  # http://host:port
    headers: Mapping[str, str] = field(repr=False)  # with its user and password, if any

    def __str__(self) -> str:
        return f"the proxy {self.address} ({self.variable})"


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies of an environment, by the customary rules."""

    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    def find(self, url: str) -> Proxy | None:
        """Returns the proxy for a URL; None means a direct connection. Raises StoreError."""
        parts = urllib.parse.urlsplit(url)
        found = self._read(f"{parts.scheme}_proxy") or self._read("all_proxy")
        if found is None or self._is_exempt(parts.hostname or "", parts.port, parts.scheme):
            return None
        return _read_proxy(*found)

    def _read(self, name: str) -> tuple[str, str] | None:
        """Returns name and value. The lower-case spelling takes precedence, even if it is empty."""
        for spelled in (name, name.upper()):
            if spelled in self.variables:
                value = read_text(self.variables, spelled)
                return None if value is None else (spelled, value)
        return None

    def _is_exempt(self, host: str, port: int | None, scheme: str) -> bool:
        address = _read_address(host)
        if address is None:
            if host == "localhost" or host.endswith(".localhost"):
                return True
        elif address.is_loopback or address.is_link_local:  # not reachable by other machines
            return True
        told = self._read("no_proxy")
        names = [name for name in re.split(r"[\s,]+", told[1]) if name] if told else []
        if "*" in names or (address and any(_covers(name, address) for name in names)):
            return True
        listed = ",".join(name.removeprefix("*") for name in names)
        place = f"{host}:{port or _PORTS[scheme]}"
        return bool(urllib.request.proxy_bypass_environment(place, {"no": listed}))  # type: ignore[attr-defined]


def read_proxies(environment: Mapping[str, str]) -> Proxies:
    """Reads the proxy settings of an environment."""
    return Proxies({k: v for k, v in environment.items() if k.lower().endswith("_proxy")})


class Pools(urllib3.PoolManager):
    """Connection pools; each request goes through the proxy for its address, if any.

    An answer that is read whole, including any failure, has at most MAX_ANSWER bytes; else NotS3.
    """

    def __init__(self, proxies: Proxies, trust: ssl.SSLContext, **options: Any) -> None:
        self._options = {**options, "ssl_context": trust, "cert_reqs": "CERT_REQUIRED"}
        super().__init__(**self._options)
        self._proxies = proxies
        self._trust = trust
        self._managers: dict[str, urllib3.ProxyManager] = {}  # by the proxy's address

    def urlopen(  # type: ignore[override]
        self, method: str, url: str, redirect: bool = True, **options: Any
    ) -> BaseHTTPResponse:
        is_whole = options.pop("preload_content", True)
        answer = self._send(method, url, redirect, preload_content=False, **options)
        return _take(answer) if is_whole or answer.status >= _FAILED else answer

    def _send(self, method: str, url: str, redirect: bool, **options: Any) -> BaseHTTPResponse:
        proxy = self._proxies.find(url)
        if proxy is None:
            return super().urlopen(method, url, redirect, **options)
        manager = self._managers.get(proxy.address)
        if manager is None:
            manager = self._managers[proxy.address] = urllib3.ProxyManager(
                proxy.address,
                proxy_headers=proxy.headers,
                proxy_ssl_context=self._trust,
                **self._options,
            )
        return manager.urlopen(method, url, redirect, **options)

    def clear(self) -> None:
        super().clear()
        for manager in getattr(self, "_managers", {}).values():
            manager.clear()


def _take(answer: BaseHTTPResponse) -> BaseHTTPResponse:
    """Returns the answer with its whole body read."""
    body = bytearray()
    while more := answer.read(_BLOCK):
        body += more
        if len(body) > MAX_ANSWER:
            answer.close()
            raise NotS3(f"an answer of more than {MAX_ANSWER:,} bytes")
    return urllib3.HTTPResponse(
        body=io.BytesIO(body),
        headers=answer.headers,
        status=answer.status,
        version=answer.version,
        reason=answer.reason,
        decode_content=False,  # decoded already
    )


def _read_proxy(variable: str, value: str) -> Proxy:
    """Parses a proxy's address. Errors do not quote it, since it may contain a password."""
    if "://" not in value:
        value = f"http://{value}"
    try:
        parts = urllib.parse.urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not re.fullmatch(r"[A-Za-z0-9._:-]+", host):
        raise StoreError(f"{variable} is no address of a proxy: write http://host:port")
    scheme = parts.scheme.lower()
    if scheme not in _PORTS:
        raise StoreError(
            f"{variable} names a proxy for {scheme}: Hippo can use those for http and https; write"
            " http://host:port, or name the store's host in NO_PROXY"
        )
    place = f"[{host}]" if ":" in host else host
    headers: dict[str, str] = {}
    if parts.username is not None:
        keys = f"{parts.username}:{parts.password or ''}"
        try:
            headers = dict(urllib3.make_headers(proxy_basic_auth=urllib.parse.unquote(keys)))
        except UnicodeEncodeError:
            raise StoreError(
                f"{variable} holds a user or password with a character beyond Latin-1"
            ) from None
    return Proxy(variable, f"{scheme}://{place}:{port or _PORTS[scheme]}", headers)


def _read_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _covers(name: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an entry of NO_PROXY is this address or a network that contains it."""
    try:
        return address in ipaddress.ip_network(name.strip("[]"), strict=False)
    except ValueError:
        return False
