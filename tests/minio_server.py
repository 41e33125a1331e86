"""A real MinIO server for tests: built once, started on loopback with a data folder of its own.

The binary is built from source with Go: some minutes, once per machine (``tests.builds``).
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import urllib3
from minio import Minio

from stage_runner.worker import die_with_parent
from tests.builds import GoRecipe, Impossible, skip_or_fail

RECIPE = GoRecipe(
    name="minio",
    version="v0.0.0-20260212201848-7aac2a2c5b7c",
    packages=("github.com/minio/minio",),
    minutes=4,
)
_START_SECONDS = 60.0
ADMIN, PASSWORD = "hippo-admin", "hippo-password"
BUCKET = "hippo"
SERVER_SETTINGS = {
    "MINIO_ROOT_USER": ADMIN,
    "MINIO_ROOT_PASSWORD": PASSWORD,
    "MINIO_BROWSER": "off",
    "MINIO_CI_CD": "1",  # a data folder on the system's disk is fine
    "MINIO_UPDATE": "off",
}
"""Environment of a server."""


@dataclass
class MinioServer:
    """Runs from ``start`` to ``stop``; what it holds outlives a restart."""

    folder: Path
    is_secure: bool = False
    port: int = field(default_factory=lambda: find_free_port())
    host: str = "127.0.0.1"
    _process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.is_secure else 'http'}://{self.address}"

    @property
    def certificate(self) -> Path:
        """Its own, signed by nobody else."""
        return self.folder.with_name(f"{self.folder.name}-certificates") / "public.crt"

    @property
    def settings(self) -> dict[str, str]:
        """Environment of a process that uses this server as its S3."""
        return {
            "AWS_ACCESS_KEY_ID": ADMIN,
            "AWS_SECRET_ACCESS_KEY": PASSWORD,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.is_secure:
            self._make_certificate()
        command = [find_binary(), "server", "--quiet", "--address", self.address]
        command += ["--certs-dir", str(self.certificate.parent), str(self.folder)]
        self._process = subprocess.Popen(
            command,
            env={
                **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
                **SERVER_SETTINGS,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=functools.partial(die_with_parent, os.getpid()),
        )
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_ready():
            assert self._process.poll() is None, "MinIO has ended while it started"
            assert time.monotonic() < deadline, "MinIO does not become ready"
            time.sleep(0.05)

    def stop(self) -> None:
        """Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections and never answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def make_bucket(self, name: str) -> None:
        client = Minio(
            self.address,
            ADMIN,
            PASSWORD,
            secure=self.is_secure,
            region="us-east-1",
            http_client=urllib3.PoolManager(
                ca_certs=str(self.certificate) if self.is_secure else None,
                retries=urllib3.Retry(10, backoff_factor=0.1, status_forcelist=[503]),
            ),
        )
        client.make_bucket(name)

    def _make_certificate(self) -> None:
        self.certificate.parent.mkdir(exist_ok=True)
        private = self.certificate.with_name("private.key")
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-subj", "/CN=localhost", "-addext", f"subjectAltName=IP:{self.host}"),
                *("-keyout", str(private), "-out", str(self.certificate)),
            ],
            check=True,
            capture_output=True,
        )

    def _is_ready(self) -> bool:
        """Also its own users are loaded by then."""
        url = f"{self.endpoint}/minio/health/cluster"
        trust = ssl.create_default_context()
        if self.is_secure:
            trust.load_verify_locations(self.certificate)
        try:
            with urllib.request.urlopen(url, timeout=5, context=trust) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_binary() -> str:
    """The path of the server's binary, built if need be. Skips the test where it cannot be."""
    try:
        return str(RECIPE.build() / "minio")
    except Impossible as reason:
        skip_or_fail(f"{reason}; or set HIPPO_TEST_S3")
