"""The environment that users of S3 know leads to a store, or to a line that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from hippo.store import StoreError
from hippo.store.s3_settings import PATIENCE_SECONDS, read_settings

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "very secret"}


@pytest.mark.parametrize(
    ("environment", "endpoint", "region"),
    [
        ({}, "https://s3.amazonaws.com", None),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "https://s3.amazonaws.com", "eu-west-1"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9000/"}, "http://127.0.0.1:9000", "us-east-1"),
        (
            {"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_S3": "https://b", "AWS_REGION": "r"},
            "https://b",
            "r",
        ),
    ],
)
def test_where_it_is(environment: dict[str, str], endpoint: str, region: str | None) -> None:
    settings = read_settings("s3://bucket/", {**KEYS, **environment})
    assert (settings.endpoint, settings.region) == (endpoint, region)
    assert settings.patience == PATIENCE_SECONDS


@pytest.mark.parametrize(
    ("url", "prefix", "text"),
    [
        ("s3://bucket", "", "s3://bucket"),
        ("s3://bucket/", "", "s3://bucket"),
        ("s3://bucket/a/b", "a/b/", "s3://bucket/a/b"),
        ("s3://my.bucket-1/a/", "a/", "s3://my.bucket-1/a"),
    ],
)
def test_the_prefix_ends_where_names_begin(url: str, prefix: str, text: str) -> None:
    settings = read_settings(url, KEYS)
    assert (settings.prefix, str(settings)) == (prefix, text)


def test_keys_and_tokens_are_passed_on_and_never_shown() -> None:
    settings = read_settings("s3://bucket", {**KEYS, "AWS_SESSION_TOKEN": "also secret"})
    keys = settings.provider.retrieve()
    assert (keys.access_key, keys.secret_key, keys.session_token) == (
        "key",
        "very secret",
        "also secret",
    )
    assert "secret" not in f"{settings} {settings!r}"


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"AWS_SECRET_ACCESS_KEY": ""}, "set both AWS_ACCESS_KEY_ID and"),
        ({"AWS_ENDPOINT_URL": "ftp://host"}, "AWS_ENDPOINT_URL is no address"),
        ({"AWS_ENDPOINT_URL": "http://me:secret@host"}, "AWS_ENDPOINT_URL is no address"),
        ({"AWS_ENDPOINT_URL": "http://host:port"}, "AWS_ENDPOINT_URL is no address"),
        ({"AWS_CA_BUNDLE": "/no/such/file"}, "there is no file /no/such/file"),
        ({"HIPPO_S3_PATIENCE": "soon"}, "HIPPO_S3_PATIENCE is 'soon'"),
        ({"HIPPO_S3_PATIENCE": "nan"}, "HIPPO_S3_PATIENCE is 'nan'"),
    ],
)
def test_wrong_settings(environment: dict[str, str], says: str) -> None:
    with pytest.raises(StoreError, match=says) as error:
        read_settings("s3://bucket", {**KEYS, **environment})
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("url", ["s3://", "s3:///a", "s3://B_ucket", "s3://bucket?a=b", "s3://b"])
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(StoreError, match="write s3://bucket/prefix"):
        read_settings(url, KEYS)


def test_a_bundle_of_certificates(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.touch()
    settings = read_settings("s3://bucket", {**KEYS, "AWS_CA_BUNDLE": str(bundle)})
    assert settings.certificates == str(bundle)
