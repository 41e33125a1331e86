"""The signature depends on everything that results depend on, and on nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from hippo.model import TrainerSpec, signature, signature_document

POD: dict[str, Any] = {
    "metadata": {"labels": {"a": "b"}},
    "spec": {
        "nodeSelector": {"zone": "a"},
        "containers": [{"name": "trainer", "env": [{"name": "A", "value": "1"}],
                        "resources": {"limits": {"cpu": 2, "memory": "4Gi"}}}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    },
}  # fmt: skip


def sign(digest: str | None = None, **fields: Any) -> str:
    trainer = TrainerSpec.model_validate({"entrypoint": "a:B", "podTemplate": POD, **fields})
    return signature(signature_document(trainer, digest))


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"labels": {"c": "d"}}, "spec": {**POD["spec"], **spec}}


@pytest.mark.parametrize("digest", [None, "0123"])
@pytest.mark.parametrize(
    "fields",
    [{"entrypoint": "a:C"}, {"config": {"depth": 2}}, {"seed": 1}, {"threads": 2},
     {"version": "2"}, {"exactness": "relaxed"}],
)  # fmt: skip
def test_what_counts_everywhere(digest: str | None, fields: dict[str, Any]) -> None:
    assert sign(digest, **fields) != sign(digest)


def test_numbers_count_by_value() -> None:
    assert sign(config={"a": 1.0, "b": [2]}) == sign(config={"b": [2.0], "a": 1})
    assert sign(config={"a": True}) != sign(config={"a": 1})


def test_the_maximum_grace_and_memory_do_not_count() -> None:
    assert sign(maxGrace="1m", stepTimeout="5m", resources={"limits": {"memory": "1Gi"}}) == sign()


def container(**fields: Any) -> dict[str, Any]:
    return pod(containers=[{**POD["spec"]["containers"][0], **fields}])


IN_THE_POD: list[tuple[dict[str, Any], bool]] = [
    ({"image": "x:1"}, True),
    ({"resources": {"limits": {"nvidia.com/gpu": 1}}}, True),
    ({"resources": {"limits": {"cpu": "2"}}}, True),
    ({"podTemplate": pod(nodeSelector={}, tolerations=[{"key": "a"}])}, False),
    ({"podTemplate": pod(volumes=[])}, True),
    ({"podTemplate": container(env=[])}, True),
    ({"podTemplate": container(args=["--fast"])}, True),
    ({"podTemplate": container(resources={"limits": {"cpu": "2", "memory": "8Gi"}})}, False),
    ({"podTemplate": container(resources={"limits": {"cpu": 3}})}, True),
]


@pytest.mark.parametrize(("fields", "counts"), IN_THE_POD)
def test_what_counts_in_a_pod(fields: dict[str, Any], counts: bool) -> None:
    assert (sign(**fields) != sign()) == counts
    assert sign("0123", **fields) == sign("0123")


def test_sources_count_locally() -> None:
    assert len({sign(), sign("0123"), sign("4567")}) == 3


def test_signatures_stay_what_they_are() -> None:
    """Stores outlive releases: a changed signature would make every stored result unreachable."""
    assert sign("0123", config={"depth": 2}) == (
        "892d4ccb4fbe348a1201304dd3da6ebdb26f8a0c5bb30b8b8ed30d954e88b678"
    )
