"""What can go wrong with S3: which failures pass, and one line with the remedy for the others."""

from __future__ import annotations

from xml.etree.ElementTree import ParseError

from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3 import exceptions

from hippo.store.blobs import StoreError
from hippo.store.s3_settings import MissingCredentials, S3Settings

FAILURES = (MinioException, exceptions.HTTPError, OSError, ParseError, MissingCredentials)
"""All that a request may raise; ParseError: the answer is not that of S3."""

_PASSING_STATUS = frozenset({408, 429, 500, 502, 503, 504})
_PASSING_CODES = frozenset({"RequestTimeout", "SlowDown", "OperationAborted", "InternalError"})
_KEYS = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "InvalidToken",
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
_KEPT = "or use another --store; what is stored is kept"
_ALLOWS = {
    "read": "s3:GetObject on its objects and s3:ListBucket on the bucket",
    "list": "s3:ListBucket on the bucket",
    "write": "s3:PutObject and s3:AbortMultipartUpload on its objects",
    "delete": "s3:DeleteObject on its objects",
    "clean": "s3:ListBucketMultipartUploads on the bucket",
}


def status_of(error: Exception) -> int:
    """The HTTP status of an answer; 0 if there was none."""
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
    """Whether trying again may help."""
    if isinstance(error, (exceptions.SSLError, exceptions.LocationParseError)):
        return False
    if isinstance(error, (exceptions.HTTPError, OSError)):
        return True
    if code_of(error) in _FULL:
        return False
    return status_of(error) in _PASSING_STATUS or code_of(error) in _PASSING_CODES


def explain(error: Exception, action: str, name: str, settings: S3Settings) -> StoreError:
    """One line: what failed, why, and what helps. ``action``: read, list, write, delete, clean."""
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
    if status_of(error):
        return StoreError(f"{where}: {endpoint} answers with HTTP status {status_of(error)}")
    if isinstance(error, ParseError):
        return StoreError(f"{where}: {endpoint} does not answer as S3 does: check AWS_ENDPOINT_URL")
    if isinstance(error, MissingCredentials):
        return StoreError(
            f"{where}: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or"
            " AWS_PROFILE"
        )
    if isinstance(error, exceptions.SSLError):
        return StoreError(
            f"{where}: no secure connection to {endpoint} ({_reason(error)}): check"
            " AWS_ENDPOINT_URL, or set AWS_CA_BUNDLE"
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


def _reason(error: Exception) -> str:
    """The innermost of what failed: a name for it, in a word or a few."""
    inner = error
    while inner.__cause__ is not None and isinstance(inner.__cause__, Exception):
        inner = inner.__cause__
    text = getattr(inner, "strerror", None) or type(inner).__name__
    return " ".join(str(text).split())
