"""Errors of S3: which ones may pass, and a one-line message with the remedy for the others."""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Iterator
from xml.etree.ElementTree import ParseError

from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3 import exceptions

from hippo.store.blobs import StoreError
from hippo.store.s3.keys import MissingCredentials
from hippo.store.s3.network import NotS3
from hippo.store.s3.settings import S3Settings

FAILURES = (MinioException, exceptions.HTTPError, OSError, ParseError, MissingCredentials)
"""All that a request may raise. ParseError means that the answer is not from S3."""

_PASSING_STATUS = frozenset({408, 429, 500, 502, 503, 504})
_PASSING_CODES = frozenset({"RequestTimeout", "SlowDown", "OperationAborted", "InternalError"})
_KEYS = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "InvalidToken",
        "InvalidTokenId",
        "ExpiredToken",
        "TokenRefreshRequired",
    }
)
_FULL = frozenset(
    {"XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage"}
)
_REGION = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "PermanentRedirect",
        "Redirect",
        "IllegalLocationConstraintException",
    }
)
_PASSING_TLS = frozenset(
    {
        "UNEXPECTED_EOF_WHILE_READING",
        "DECRYPTION_FAILED_OR_BAD_RECORD_MAC",
        "SSLV3_ALERT_BAD_RECORD_MAC",
        "TLSV1_ALERT_INTERNAL_ERROR",
    }
)
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")
_KEPT = "or use another --store; what is stored is kept"
_ALLOWS = {
    "read": "s3:GetObject on its objects and s3:ListBucket on the bucket",
    "list": "s3:ListBucket on the bucket",
    "write": "s3:PutObject and s3:AbortMultipartUpload on its objects",
    "delete": "s3:DeleteObject on its objects",
    "clean": "s3:ListBucketMultipartUploads on the bucket",
}


@contextlib.contextmanager
def understanding() -> Iterator[None]:
    """Turns errors of parsing an answer into NotS3."""
    try:
        yield
    except FAILURES:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise NotS3(f"{type(error).__name__}: {error}") from error


def status_of(error: Exception) -> int:
    """Returns the HTTP status of an answer; 0 if there was none."""
    match error:
        case S3Error():
            return int(error.response.status)
        case ServerError():
            return int(error.status_code)
        case InvalidResponseError():
            return int(error._code)
        case _:
            return 0


def code_of(error: Exception) -> str:
    return error.code or "" if isinstance(error, S3Error) else ""


def is_passing(error: Exception) -> bool:
    """Whether a retry may help."""
    if isinstance(error, MissingCredentials):
        return error.is_passing
    if isinstance(error, exceptions.LocationParseError) or _is_refused_by_proxy(error):
        return False
    if (tls := _find_tls_error(error)) is not None:
        return _is_passing_tls(tls)
    if isinstance(error, (exceptions.HTTPError, OSError)):
        return True
    if code_of(error) in _FULL:
        return False
    return status_of(error) in _PASSING_STATUS or code_of(error) in _PASSING_CODES


def explain(error: Exception, action: str, name: str, settings: S3Settings) -> StoreError:
    """Explains an error in one line: what failed, why, and the remedy.

    ``action`` is read, list, write, delete or clean.
    """
    where = f"cannot {action} {settings}{'/' if name else ''}{name}"
    bucket, endpoint = settings.bucket, settings.endpoint
    code = code_of(error)
    if code == "NoSuchBucket":
        return StoreError(
            f"there is no bucket {bucket} at {endpoint}: create it (aws s3 mb s3://{bucket}),"
            " or use another --store"
        )
    if code in _FULL or status_of(error) == 507:
        return StoreError(f"{where}: no space left ({code}): free some, {_KEPT}")
    if code in _KEYS:
        return StoreError(
            f"{where}: {endpoint} refuses the credentials ({code}): check AWS_ACCESS_KEY_ID,"
            " AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
        )
    if code in _REGION:
        return StoreError(f"{where}: the bucket is in another region: set AWS_REGION ({code})")
    if code == "RequestTimeTooSkewed":
        return StoreError(f"{where}: this machine's clock is wrong: set it")
    if status_of(error) == 403:
        return StoreError(
            f"{where}: permission denied ({code or 403}): allow this user {_ALLOWS[action]},"
            f" {_KEPT}"
        )
    if isinstance(error, S3Error):
        said = " ".join((error.message or "").split())
        return StoreError(f"{where}: {endpoint} says {code}: {said}")
    if _is_refused_by_proxy(error):
        return StoreError(
            f"{where}: {_find_proxy(settings)} does not let it through ({_reason(error)}): check"
            " its user and password, or name the store's host in NO_PROXY"
        )
    if status_of(error):
        asked = " over http: perhaps it wants https" if _may_want_https(error, settings) else ""
        return StoreError(
            f"{where}: {endpoint} answers with HTTP status {status_of(error)}{asked}: check"
            " AWS_ENDPOINT_URL"
        )
    if isinstance(error, ParseError | NotS3):
        return StoreError(f"{where}: {endpoint} does not answer as S3 does: check AWS_ENDPOINT_URL")
    if isinstance(error, MissingCredentials):
        why = f": {error.reason}" if error.reason else ""
        return StoreError(
            f"{where}: no credentials{why}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or"
            " AWS_PROFILE"
        )
    if isinstance(error, exceptions.ProxyError):
        return StoreError(
            f"{where}: {_find_proxy(settings)} cannot be reached ({_reason(error)}): check it, or"
            " name the store's host in NO_PROXY"
        )
    if _find_tls_error(error) is not None:
        return StoreError(
            f"{where}: no secure connection to {endpoint} ({_reason(error)}): check"
            " AWS_ENDPOINT_URL, or set AWS_CA_BUNDLE to the certificate of its authority"
        )
    if isinstance(error, exceptions.ReadTimeoutError):
        return StoreError(
            f"{where}: {endpoint} is too slow: no answer in {settings.patience:g} s; try again when"
            f" it is well, or raise HIPPO_S3_PATIENCE, {_KEPT}"
        )
    return StoreError(
        f"{where}: {endpoint} cannot be reached ({_reason(error)}): check AWS_ENDPOINT_URL and that"
        f" it runs, {_KEPT}"
    )


def _find_tls_error(error: Exception) -> ssl.SSLError | None:
    found = _innermost(error)
    return found if isinstance(found, ssl.SSLError) else None


def _is_passing_tls(error: ssl.SSLError) -> bool:
    """Whether data was cut off or garbled in transit; any other TLS error would recur."""
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)):
        return True
    return (error.reason or "") in _PASSING_TLS


def _is_refused_by_proxy(error: Exception) -> bool:
    """Whether a proxy answered and refused."""
    told = _TUNNEL.search(str(_innermost(error)))
    return (told is not None and told[1].startswith("4")) or status_of(error) == 407


def _find_proxy(settings: S3Settings) -> str:
    return str(settings.proxies.find(settings.endpoint) or "the proxy")


def _may_want_https(error: Exception, settings: S3Settings) -> bool:
    return status_of(error) == 400 and not settings.is_secure


def _innermost(error: Exception) -> Exception:
    """Returns the original error, which urllib3 wraps as a cause or an argument."""
    while True:
        inner = next((e for e in (error.__cause__, *error.args) if isinstance(e, Exception)), None)
        if inner is None:
            return error
        error = inner


def _reason(error: Exception) -> str:
    """Describes the innermost error in a few words."""
    inner = _innermost(error)
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {inner.verify_message}"
    told = _TUNNEL.search(str(inner))
    if told is not None or status_of(error):
        return f"HTTP status {told[1] if told else status_of(error)}"
    text = getattr(inner, "strerror", None) or type(inner).__name__
    return " ".join(str(text).split())
