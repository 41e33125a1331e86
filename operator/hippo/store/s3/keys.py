"""Credentials for S3: from the environment, from the credentials file of the AWS tools, or from the
role of the machine or pod, by the providers of the ``minio`` package.

A named source that is empty, incomplete or unreadable is refused; otherwise a run would continue
with other credentials than intended. Credentials are never quoted, nor are errors that contain
them.
"""

from __future__ import annotations

import configparser
import os
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

import urllib3
from minio.credentials import credentials, providers
from urllib3.response import BaseHTTPResponse

from hippo.store.blobs import StoreError
from hippo.store.given import (
    check_text,
    check_word,
    explain_file,
    read_if_there,
    read_text,
)
from hippo.store.s3.network import Pools, Proxies, open_trust

_ID, _SECRET, _TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
_FILE, _PROFILE = "AWS_SHARED_CREDENTIALS_FILE", "AWS_PROFILE"
_IDENTITY = "AWS_WEB_IDENTITY_TOKEN_FILE"
_SERVICES = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
_STATUS = re.compile(r"HTTP status code (\d{3})$")


class MissingCredentials(Exception):
    """There are no credentials; ``reason`` says why, or is empty."""

    def __init__(self, reason: str = "", *, is_passing: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_passing = is_passing


def find_provider(
    environment: Mapping[str, str], *, region: str | None, bundle: str | None, proxies: Proxies
) -> providers.Provider:
    """Returns the credentials' provider, reading only local files. Raises StoreError."""
    static = _read_environment(environment) or _read_file(environment)
    if static is not None:
        return static
    if environment.get("AWS_EC2_METADATA_DISABLED", "").strip().lower() == "true":
        return _NoCredentials()
    return _Role(environment, region=region, bundle=bundle, proxies=proxies)


def _read_environment(environment: Mapping[str, str]) -> providers.Provider | None:
    given = {name: environment[name].strip() for name in (_ID, _SECRET) if name in environment}
    token = environment.get(_TOKEN, "").strip()
    if not given:
        if token:
            raise StoreError(f"{_TOKEN} is set without keys: set {_ID} and {_SECRET} as well")
        return None
    for name in (_ID, _SECRET):
        if not given.get(name):
            is_ = "is empty" if name in given else "is not set"
            raise StoreError(
                f"{name} {is_}: set both {_ID} and {_SECRET}, or neither, for keys from elsewhere"
            )
    return _static(given[_ID], given[_SECRET], token, (_ID, _SECRET, _TOKEN))


def _read_file(environment: Mapping[str, str]) -> providers.Provider | None:
    """Returns the keys of a profile; None if none is named and there is no default.

    Raises StoreError.
    """
    named = read_text(environment, _FILE)
    home = environment.get("HOME") or os.path.expanduser("~")
    path = os.path.expanduser(named) if named else os.path.join(home, ".aws", "credentials")
    place = f"{path} ({_FILE})" if named else path
    parser = _parse_file(path, place)
    if parser is None and named:
        raise StoreError(f"{_FILE}: there is no file {path}")
    wanted = read_text(environment, _PROFILE)
    profile = wanted or "default"
    if parser is None or not parser.has_section(profile):
        if wanted:
            raise StoreError(f"{_PROFILE}: there is no profile {wanted} in {place}")
        return None
    names = tuple(name.lower() for name in (_ID, _SECRET, _TOKEN))
    if not wanted and not any(parser.has_option(profile, name) for name in names):
        return None
    key, secret, token = (parser.get(profile, name, fallback="").strip() for name in names)
    for name, value in zip(names, (key, secret), strict=False):
        if not value:
            raise StoreError(f"profile {profile} in {place} has no {name}: add it")
    in_file = tuple(f"{name} of profile {profile} in {place}" for name in names)
    return _static(key, secret, token, in_file)


def _parse_file(path: str, place: str) -> configparser.RawConfigParser | None:
    """Reads a credentials file; None if there is none. Raises StoreError."""
    parser = configparser.RawConfigParser(default_section="", strict=False)
    try:
        data = read_if_there(path)
        if data is None:
            return None
        parser.read_string(data.decode("utf-8-sig"))
        return parser
    except OSError as error:
        raise StoreError(f"{place} {explain_file(error)}") from None
    except UnicodeDecodeError as error:
        raise StoreError(f"{place} is not UTF-8 text (byte {error.start})") from None
    except configparser.Error as error:  # the error quotes the line
        told = [number for number, _ in getattr(error, "errors", ())]
        line = getattr(error, "lineno", None) or next(iter(told), "?")
        raise StoreError(
            f"{place} is no credentials file of the AWS tools: see its line {line}"
        ) from None


def _static(key: str, secret: str, token: str, names: tuple[str, ...]) -> providers.Provider:
    check_word(names[0], key)
    check_text(names[1], secret)  # only used for signing, not sent
    check_word(names[2], token)
    return providers.StaticProvider(key, secret, token or None)


class _NoCredentials(providers.Provider):
    def retrieve(self) -> credentials.Credentials:
        raise MissingCredentials


class _Role(providers.Provider):
    """Credentials of the machine's or pod's role, or of its web identity; fetched when needed."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        region: str | None,
        bundle: str | None,
        proxies: Proxies,
    ) -> None:
        self._identity = read_text(environment, _IDENTITY)
        self._token_file = read_text(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
        self._check_files()
        self._is_promised = bool(self._identity) or any(environment.get(n) for n in _SERVICES)
        service = None
        if self._identity:
            place = f"sts.{region}" if region else "sts"
            china = ".cn" if (region or "").startswith("cn-") else ""
            service = f"https://{place}.amazonaws.com{china}"
        timeout = urllib3.Timeout(1.0, 3.0)
        pools = _FormPools(proxies, open_trust(bundle), timeout=timeout, retries=1)
        self._role = providers.IamAwsProvider(
            custom_endpoint=service, http_client=pools, token_file=self._identity
        )

    def retrieve(self) -> credentials.Credentials:
        self._check_files()
        try:
            found = self._role.retrieve()
        # Any exception: minio does not validate a service's answers, and quotes them in errors.
        except Exception as error:
            raise self._explain(error) from None
        self._is_promised = True
        origin = "the key that the role gave"
        check_word(origin, found.access_key)
        check_text(origin, found.secret_key)
        check_word(origin, found.session_token or "")
        return found

    def _explain(self, error: Exception) -> MissingCredentials:
        if not self._is_promised:
            return MissingCredentials()
        status = _STATUS.search(str(error))
        code = int(status[1]) if status else 0
        is_passing = isinstance(error, (urllib3.exceptions.HTTPError, OSError))
        reason = f"HTTP status {code}" if code else type(error).__name__
        who = f"the web identity ({_IDENTITY})" if self._identity else "the role"
        return MissingCredentials(
            f"{who} gets none ({reason})", is_passing=is_passing or code == 429 or code >= 500
        )

    def _check_files(self) -> None:
        for name, path in (
            (_IDENTITY, self._identity),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", self._token_file),
        ):
            if path is None:
                continue
            try:
                with open(path, "rb") as file:
                    is_empty = not file.read().strip()
            except OSError as error:
                raise StoreError(f"{name}: {path} {explain_file(error)}") from None
            if is_empty:
                raise StoreError(f"{name}: {path} is empty")


class _FormPools(Pools):
    """Sends a query as a form, because a token in a URL would be logged on its way.

    Values read from files are stripped of the line break at their end.
    """

    def urlopen(  # type: ignore[override]
        self, method: str, url: str, redirect: bool = True, **options: Any
    ) -> BaseHTTPResponse:
        headers = {key: value.strip() for key, value in (options.get("headers") or {}).items()}
        parts = urllib.parse.urlsplit(url)
        if method == "POST" and parts.query:
            url = urllib.parse.urlunsplit(parts._replace(query=""))
            form = urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
            options["body"] = urllib.parse.urlencode([(key, value.strip()) for key, value in form])
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        return super().urlopen(method, url, redirect, **{**options, "headers": headers})
