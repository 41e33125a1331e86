"""S3's usual environment variables give a store, or one line that explains what is wrong."""

from __future__ import annotations

import ssl
from pathlib import Path

import certifi
import pytest

from hippo.store import StoreError, open_blobs
from hippo.store.s3.settings import PATIENCE_SECONDS, read_settings

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
    settings = read_settings("s3://bucket", {**KEYS, "AWS_SESSION_TOKEN": "also-secret"})
    keys = settings.provider.retrieve()
    assert (keys.access_key, keys.secret_key, keys.session_token) == (
        "key",
        "very secret",
        "also-secret",
    )
    assert "secret" not in f"{settings} {settings!r}"


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"AWS_SECRET_ACCESS_KEY": ""}, "AWS_SECRET_ACCESS_KEY is empty: set both"),
        ({"AWS_ACCESS_KEY_ID": ""}, "AWS_ACCESS_KEY_ID is empty: set both"),
        ({"AWS_ACCESS_KEY_ID": " \n"}, "AWS_ACCESS_KEY_ID is empty: set both"),
        ({"AWS_ACCESS_KEY_ID": "secret\nX: y"}, "AWS_ACCESS_KEY_ID holds a line break: remove it"),
        ({"AWS_ACCESS_KEY_ID": "secret\u2026"}, "AWS_ACCESS_KEY_ID holds a character beyond ASCII"),
        ({"AWS_ACCESS_KEY_ID": "sec ret"}, "AWS_ACCESS_KEY_ID holds white space"),
        ({"AWS_ACCESS_KEY_ID": "\ufeffsecret"}, "AWS_ACCESS_KEY_ID holds a character beyond ASCII"),
        ({"AWS_SECRET_ACCESS_KEY": "very\rsecret"}, "AWS_SECRET_ACCESS_KEY holds a line break"),
        (
            {"AWS_SECRET_ACCESS_KEY": "secret\udcff"},
            "AWS_SECRET_ACCESS_KEY holds a character beyond",
        ),
        ({"AWS_SESSION_TOKEN": "secret\r\nto"}, "AWS_SESSION_TOKEN holds a line break"),
        ({"AWS_SESSION_TOKEN": "secret\x00"}, "AWS_SESSION_TOKEN holds a control character"),
        ({"AWS_REGION": "us east"}, "AWS_REGION is no region"),
        ({"AWS_REGION": "us-east-1\nsecret"}, "AWS_REGION holds a line break"),
        ({"AWS_DEFAULT_REGION": "../secret"}, "AWS_DEFAULT_REGION is no region"),
        ({"AWS_ENDPOINT_URL_S3": "host:9000"}, "AWS_ENDPOINT_URL_S3 is no address"),
        ({"AWS_ENDPOINT_URL": "http://host/secret"}, "AWS_ENDPOINT_URL is no address"),
        ({"AWS_ENDPOINT_URL": "http://host?secret"}, "AWS_ENDPOINT_URL is no address"),
        ({"AWS_ENDPOINT_URL": "http://my host"}, "AWS_ENDPOINT_URL is no address"),
        ({"AWS_ENDPOINT_URL": "http://"}, "AWS_ENDPOINT_URL is no address"),
        ({"AWS_ENDPOINT_URL": "http://host:99999"}, "AWS_ENDPOINT_URL is no address"),
        ({"AWS_ENDPOINT_URL": "http://[::1"}, "AWS_ENDPOINT_URL is no address"),
        ({"AWS_ENDPOINT_URL": "http://s3\u0430.org"}, "AWS_ENDPOINT_URL is no address"),
        ({"AWS_CA_BUNDLE": "/tmp"}, "AWS_CA_BUNDLE: /tmp is a directory, not a file"),
        ({"SSL_CERT_FILE": "/no/such/file"}, "SSL_CERT_FILE: there is no file /no/such/file"),
        ({"HIPPO_S3_PATIENCE": "-1"}, "HIPPO_S3_PATIENCE is '-1'"),
        ({"HIPPO_S3_PATIENCE": "inf"}, "HIPPO_S3_PATIENCE is 'inf'"),
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
    assert error.value.__cause__ is None  # which a traceback would quote


@pytest.mark.parametrize("url", ["s3://", "s3:///a", "s3://B_ucket", "s3://bucket?a=b", "s3://b"])
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(StoreError, match="write s3://bucket/prefix"):
        read_settings(url, KEYS)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://KEY:secret@bucket/a", "s3://...@bucket/a"),
        ("s3://bucket/a?X-Amz-Signature=secret", "s3://bucket/a?..."),
        ("https://user:secret@host/a", "https://...@host/a"),
        ("file://user:secret@host/a", "file://...@host/a"),
    ],
)
def test_keys_in_a_url_are_not_repeated(url: str, shown: str) -> None:
    with pytest.raises(StoreError) as error:
        open_blobs(url)
    assert str(error.value).startswith(f"{shown}: ")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("ending", ["\n", "\r\n", " \n", "\t"])
def test_white_space_around_a_setting_is_not_part_of_it(ending: str) -> None:
    """Secrets made with echo, and files edited on Windows, end with a line break."""
    given = {
        **KEYS,
        "AWS_SESSION_TOKEN": "token",
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9000",
        "AWS_CA_BUNDLE": certifi.where(),
        "HIPPO_S3_PATIENCE": "3",
    }
    settings = read_settings("s3://bucket", {name: f" {v}{ending}" for name, v in given.items()})
    keys = settings.provider.retrieve()
    assert (keys.access_key, keys.secret_key) == ("key", "very secret")
    assert keys.session_token == "token"
    assert (settings.endpoint, settings.region) == ("http://127.0.0.1:9000", "eu-west-1")
    assert (settings.certificates, settings.patience) == (certifi.where(), 3.0)


def test_empty_settings_other_than_keys_are_not_set() -> None:
    names = ("AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "AWS_PROFILE")
    settings = read_settings("s3://bucket", {**KEYS, **dict.fromkeys(names, "")})
    assert settings.provider.retrieve().session_token is None
    assert (settings.endpoint, settings.region) == ("https://s3.amazonaws.com", None)


def test_a_bundle_of_certificates() -> None:
    settings = read_settings("s3://bucket", {**KEYS, "AWS_CA_BUNDLE": certifi.where()})
    assert settings.certificates == certifi.where()


@pytest.mark.parametrize("kind", ["empty", "DER", "text", "key"])
def test_a_bundle_without_a_certificate_is_named(tmp_path: Path, kind: str) -> None:
    pem = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----")
    content = {
        "empty": b"",
        "DER": ssl.PEM_cert_to_DER_cert(pem[0][pem[0].index("-----BEGIN") :] + pem[1] + "\n"),
        "text": b"not a certificate\n",
        "key": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    }[kind]
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(content)
    with pytest.raises(
        StoreError, match=r"AWS_CA_BUNDLE: .*bundle\.pem holds no certificate in PEM"
    ):
        read_settings("s3://bucket", {**KEYS, "AWS_CA_BUNDLE": str(bundle)})
