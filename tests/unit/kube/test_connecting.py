"""Which cluster it is, is never guessed; a kubeconfig that cannot be used is named, not quoted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hippo.kube.client import ApiError, connect


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".kube").mkdir()
    return tmp_path


def complain() -> str:
    async def go() -> None:
        async with connect():
            pass

    with pytest.raises(ApiError) as error:
        asyncio.run(go())
    line = str(error.value)
    assert "\n" not in line
    assert "secret" not in line
    assert error.value.__cause__ is None
    return line


def test_no_cluster_at_all() -> None:
    assert complain().startswith("there is no cluster to work in")


def test_a_pod_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    assert complain().startswith("the pod's service account cannot be used: ")


@pytest.mark.parametrize("is_named", [True, False])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: there is no file"),  # a link to nowhere
        ("", "cannot be used: "),
        ("folder", "is a directory, not a file"),
        ("users:\n- {token: secret\n- x: [\n", "cannot be used: line 3 is not YAML"),
        ("token: secret\n", "cannot be used: "),
    ],
)
def test_a_file_that_is_there_and_cannot_be_used(
    home: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, says: str, is_named: bool
) -> None:
    path = home / "other" if is_named else home / ".kube" / "config"
    if is_named:
        monkeypatch.setenv("KUBECONFIG", str(path))
    if content is None:
        path.symlink_to(home / "none")
    elif content == "folder":
        path.mkdir()
    else:
        path.write_text(content)
    line = complain()
    assert line.startswith(f"the kubeconfig {path} {says}")


def test_a_file_that_is_named_and_not_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".kube" / "config").write_text("current-context: another\n")
    monkeypatch.setenv("KUBECONFIG", str(home / "none"))
    assert complain() == f"KUBECONFIG: there is no file {home / 'none'}"
