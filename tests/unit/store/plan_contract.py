"""The cost and durability of a plan's records, in any store."""

from __future__ import annotations

import pytest

from hippo.protocol.records import Manifest
from hippo.store import PlanStore, open_blobs
from tests.unit.store.builders import KEY, metrics, study_document, suggestion, whole_chain
from tests.unit.store.wrappers import Counting


def write_checkpoint(store: PlanStore, content: bytes) -> tuple[Manifest, bool]:
    return store.write_checkpoint(
        key=KEY,
        step=60,
        chunks=[content[:3], memoryview(content)[3:]],
        state_digest=f"digest of {len(content)}",
        fingerprint={"torch": "2"},
        chain="c1",
    )


class PlanContract:
    @pytest.fixture
    def store(self, url: str) -> PlanStore:
        return PlanStore(open_blobs(url), "plan")

    @pytest.fixture
    def asked(self, store: PlanStore) -> Counting:
        return Counting(store.blobs)

    def test_news_of_all_chains_cost_one_list_and_a_read_for_each(
        self, store: PlanStore, asked: Counting
    ) -> None:
        watching = PlanStore(asked, store.plan)
        chains = {f"r1-{number}": whole_chain(f"r1-{number}", 6) for number in range(1, 5)}
        for reports in chains.values():
            for report in reports[:3]:
                store.write_report(report)
        store.write_report(chains["r1-4"][4])
        assert watching.read_news({}) == []
        assert watching.read_news({"r1-9": 0, "r1-2": 3}) == []
        assert asked.calls == ["list"]
        news = chains["r1-2"][:3] + chains["r1-4"][1:3]
        assert watching.read_news({"r1-4": 1, "r1-2": 0}) == news
        assert asked.calls == ["list", "list", *["get"] * 5]
        store.write_report(chains["r1-4"][3])
        assert watching.read_news({"r1-2": 3, "r1-4": 3}) == chains["r1-4"][3:5]

    def test_the_first_write_of_a_checkpoint_reads_no_data(
        self, store: PlanStore, asked: Counting
    ) -> None:
        watching = PlanStore(asked, store.plan)
        manifest, existed = write_checkpoint(watching, b"weights")
        assert not existed
        assert asked.calls == ["get", "put", "put"], "a look for the manifest, data, manifest"
        assert watching.read_checkpoint(watching.read_manifest(KEY)) == b"weights"
        assert write_checkpoint(store, b"others") == (manifest, True)

    def test_a_large_checkpoint_is_whole(self, store: PlanStore) -> None:
        content = bytes(range(251)) * 200_000  # 50 MB
        manifest, _ = write_checkpoint(store, content)
        assert store.read_checkpoint(manifest) == content
        assert write_checkpoint(store, content) == (manifest, True)

    def test_a_plan_is_read_back(self, store: PlanStore) -> None:
        store.initialise({"entrypoint": "a:B"})
        manifest, _ = write_checkpoint(store, b"weights")
        for report in whole_chain("c1"):
            store.write_report(report)
        store.write_report(metrics("c2", 0))
        store.write_decision("study", suggestion(0, lr=0.1))
        store.write_study("study", study_document("study"))
        before = store.load()
        assert before.signature == {"entrypoint": "a:B"}
        assert before.manifests == {KEY: manifest}
        assert before.reports == {"c1": whole_chain("c1"), "c2": [metrics("c2", 0)]}
        store.fold(["c1"])
        after = store.load()
        assert after.reports == before.reports
        assert after.unfolded == {"c2"}
        assert store.read_decisions("study") == [suggestion(0, lr=0.1)]
        assert store.list_studies() == ["study"]
        store.delete_checkpoint(KEY)
        assert store.load().manifests == {}
