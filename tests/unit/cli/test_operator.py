"""What the operator is told on its command line is checked before it talks to a cluster."""

from __future__ import annotations

import pytest

from hippo.cli import main


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/no/such/file")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--resync", "inf", "--resync: must be finite"),
        ("--resync", "nan", "--resync"),
        ("--resync", "-1", "--resync"),
        ("--max-workers", "1e6", "--max-workers"),
        ("--default-parallelism", "0", "--default-parallelism"),
        ("--cache-bytes", "10Gi", "--cache-bytes"),
        ("--metrics-port", "65536", "--metrics-port"),
        ("--image-pull-policy", "Sometimes", "--image-pull-policy"),
        ("--identity", "", "--identity: must be a word or a few"),
        ("--identity", "a\nb", "--identity: must be a word or a few"),
        (
            "--store-ca-configmap",
            "CA_bundle",
            "--store-ca-configmap: must be the name of an object",
        ),
        ("--cache-claim", "", "--cache-claim: must be the name of an object"),
        ("--namespace", "Team_A", "--namespace"),
        ("--own-namespace", "Team_A", "--own-namespace: must be the name of an object"),
        ("--allow", "colours=red", "--allow colours=red: must be KIND=NAME, and KIND one of"),
        ("--allow", "fields=spec.hostPID", "--allow fields=spec.hostPID: can be allowed to no"),
        ("--store", "/a/folder", "--store /a/folder: pods can only reach a bucket"),
        ("--store", "s3://KEY:secret@bucket/x", "s3://...@bucket/x: write s3://bucket/prefix"),
        ("--store", "http://me:secret@host", "http://...@host: a store is a directory"),
    ],
)
def test_wrong_options_are_named(
    capsys: pytest.CaptureFixture[str], option: str, value: str, says: str
) -> None:
    store = [] if option == "--store" else ["--store", "s3://bucket"]
    with pytest.raises(SystemExit) as error:
        main(["operator", *store, option, value])
    told = " ".join(capsys.readouterr().err.split())
    assert error.value.code not in (0, None)
    assert says in told
    assert "secret" not in told
    assert "Traceback" not in told
