"""Credentials are never guessed: a named source that cannot be used is refused."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from hippo.store import StoreError
from hippo.store.s3.errors import explain, is_passing
from hippo.store.s3.keys import MissingCredentials
from hippo.store.s3.settings import S3Settings, read_settings

ALONE = {"AWS_EC2_METADATA_DISABLED": "true"}
PROFILES = """\
[default]
aws_access_key_id = one
aws_secret_access_key = two%secret

[other]
aws_access_key_id=three
aws_secret_access_key=four
aws_session_token=five

[half]
aws_access_key_id = six

[long]
aws_access_key_id = seven
aws_secret_access_key = eight
aws_session_token = nine secret
"""


def read(environment: dict[str, str]) -> S3Settings:
    return read_settings("s3://bucket", {**ALONE, **environment})


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(PROFILES)
    return {"HOME": str(tmp_path)}


def test_the_credentials_file(home: dict[str, str]) -> None:
    keys = read(home).provider.retrieve()
    assert (keys.access_key, keys.secret_key, keys.session_token) == ("one", "two%secret", None)
    keys = read({**home, "AWS_PROFILE": "other\n"}).provider.retrieve()
    assert (keys.access_key, keys.secret_key, keys.session_token) == ("three", "four", "five")


def test_keys_of_the_environment_go_first(home: dict[str, str]) -> None:
    given = {"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "own"}
    assert read({**home, **given}).provider.retrieve().access_key == "mine"


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"AWS_ACCESS_KEY_ID": ""}, "AWS_ACCESS_KEY_ID is empty"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, "AWS_ACCESS_KEY_ID is not set"),
        (
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            "AWS_ACCESS_KEY_ID is empty",
        ),
        ({"AWS_SESSION_TOKEN": "secret"}, "AWS_SESSION_TOKEN is set without keys"),
        ({"AWS_PROFILE": "absent"}, "AWS_PROFILE: there is no profile absent in "),
        ({"AWS_PROFILE": "half"}, "profile half in .* has no aws_secret_access_key"),
        ({"AWS_PROFILE": "long"}, "aws_session_token of profile long in .* white space"),
        ({"AWS_SHARED_CREDENTIALS_FILE": "/no/such"}, "AWS_SHARED_CREDENTIALS_FILE: there is no"),
        ({"AWS_SHARED_CREDENTIALS_FILE": "/tmp"}, "/tmp .AWS_SHARED_CREDENTIALS_FILE. is a direct"),
    ],
)
def test_a_source_that_is_named_is_meant(
    home: dict[str, str], environment: dict[str, str], says: str
) -> None:
    with pytest.raises(StoreError, match=says) as error:
        read({**home, **environment})
    assert "secret" not in str(error.value).replace("aws_secret_access_key", "")
    assert error.value.__cause__ is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"aws_access_key_id = secret\n", "is no credentials file .* its line 1"),
        (b"[default]\nsecret\n", "is no credentials file .* its line 2"),
        (b"[default]\naws_access_key_id = \xff\n", "is not UTF-8 text .byte 30."),
        (b"[default]\naws_secret_access_key = secret\n", "has no aws_access_key_id: add it"),
        (
            b"[default]\naws_access_key_id =\naws_secret_access_key =\n",
            "has no aws_access_key_id: add it",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_not_absent(
    home: dict[str, str], content: bytes, says: str
) -> None:
    Path(home["HOME"], ".aws", "credentials").write_bytes(content)
    with pytest.raises(StoreError, match=says) as error:
        read(home)
    assert "secret\n" not in str(error.value)
    assert error.value.__cause__ is None


def test_a_link_to_nowhere_is_not_absent(home: dict[str, str]) -> None:
    path = Path(home["HOME"], ".aws", "credentials")
    path.unlink()
    path.symlink_to("/no/such/file")
    with pytest.raises(StoreError, match="credentials cannot be read: there is no file"):
        read(home)


@pytest.mark.parametrize("content", [None, b"", b"[other]\nregion = eu-west-1\n", b"[default]\n"])
def test_without_keys_of_its_own_the_file_leaves_it_to_others(
    home: dict[str, str], content: bytes | None
) -> None:
    path = Path(home["HOME"], ".aws", "credentials")
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MissingCredentials):
        read(home).provider.retrieve()


# -- roles -----------------------------------------------------------------------------------------


class Service:
    """A credentials service like that of Amazon's containers."""

    def __init__(self) -> None:
        self.status, self.answer = 200, b""
        self.token = ""
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.token = self.headers.get("Authorization", "")
                self.send_response(service.status)
                self.send_header("Content-Length", str(len(service.answer)))
                self.end_headers()
                self.wfile.write(service.answer)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Service]:
    found = Service()
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    (tmp_path / "token").write_text("a-secret-token\n")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", found.url)
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


def read_role(tmp_path: Path, environment: dict[str, str]) -> S3Settings:
    return read_settings("s3://bucket", {"HOME": str(tmp_path), **environment})


KEYS = (
    b'{"AccessKeyId": "a", "SecretAccessKey": "b", "Token": "c%s",'
    b' "Expiration": "2999-01-01T00:00:00Z"}'
)


def roles(service: Service, tmp_path: Path) -> dict[str, str]:
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": service.url,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token"),
    }


def test_keys_of_a_role(service: Service, tmp_path: Path) -> None:
    service.answer = KEYS % b""
    keys = read_role(tmp_path, roles(service, tmp_path)).provider.retrieve()
    assert (keys.access_key, keys.secret_key, keys.session_token) == ("a", "b", "c")
    assert service.token == "a-secret-token"  # without the line break of its file


def test_a_key_of_a_role_that_no_header_can_hold(service: Service, tmp_path: Path) -> None:
    service.answer = KEYS % b"\\nsecret"
    with pytest.raises(StoreError, match="the key that the role gave holds a line break") as error:
        read_role(tmp_path, roles(service, tmp_path)).provider.retrieve()
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("status", "answer", "passes", "reason"),
    [
        (503, b"busy", True, "HTTP status 503"),
        (403, b"a-secret-token", False, "HTTP status 403"),
        (200, b"a-secret-token", False, "JSONDecodeError"),
        (200, b"{}", False, "KeyError"),
    ],
)
def test_a_role_without_keys(
    service: Service, tmp_path: Path, status: int, answer: bytes, passes: bool, reason: str
) -> None:
    service.status, service.answer = status, answer
    settings = read_role(tmp_path, roles(service, tmp_path))
    with pytest.raises(MissingCredentials) as error:
        settings.provider.retrieve()
    assert is_passing(error.value) is passes
    line = str(explain(error.value, "read", "a", settings))
    assert f"no credentials: the role gets none ({reason}): set AWS_ACCESS_KEY_ID" in line
    assert "secret" not in line
    assert error.value.__cause__ is None


@pytest.mark.parametrize(
    "name", ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]
)
def test_a_token_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "token"
    with pytest.raises(StoreError, match=f"{name}: .*token cannot be read: there is no file"):
        read_role(tmp_path, {name: str(path)})
    path.write_text("\n")
    with pytest.raises(StoreError, match=f"{name}: .*token is empty"):
        read_role(tmp_path, {name: str(path)})
    path.unlink()
    path.mkdir()
    with pytest.raises(StoreError, match=f"{name}: .*token is a directory"):
        read_role(tmp_path, {name: str(path)})


def test_a_web_identity_is_sent_to_a_proxy_and_never_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing answers; a URL that contained the token would be in urllib3's log and errors."""
    (tmp_path / "token").write_text("a-secret-token")
    environment = {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
        "HTTPS_PROXY": "http://user:a-secret-word@127.0.0.1:1",
    }
    settings = read_role(tmp_path, environment)
    with caplog.at_level(logging.DEBUG), pytest.raises(MissingCredentials) as error:
        settings.provider.retrieve()
    assert is_passing(error.value)
    assert "the web identity (AWS_WEB_IDENTITY_TOKEN_FILE) gets none" in str(error.value)
    assert "a-secret" not in caplog.text
