"""Minimal plans in a real store, as runs leave them."""

from __future__ import annotations

from typing import Any

from hippo.model import Sequence, signature
from hippo.protocol.decisions import Decision
from hippo.protocol.reports import Began, Ended, MetricsReported, Outcome
from hippo.store import Blobs, PlanStore, plan_path
from tests.world import build_study

STEPS = 12


class StoredPlan:
    """One plan of a store. Trials are named by their hyper-parameters: ``{"lr": 0.1}``."""

    def __init__(self, blobs: Blobs, namespace: str = "default", **described: Any) -> None:
        self.document = {"entrypoint": "trainer:T", **described}
        self.signature = signature(self.document)
        self.store = PlanStore(blobs, plan_path(namespace, self.signature))
        self.store.initialise(self.document)
        self._chains = 0

    def key(self, written: dict[str, Any], step: int, apart: str = "") -> str:
        """``apart`` names the trial, in a plan trained trial by trial."""
        name = f"{self.signature}/{apart}" if apart else self.signature
        return Sequence.of(written, STEPS).key(step, name)

    def add_study(
        self,
        name: str,
        *trials: dict[str, Any],
        state: str | None = "Succeeded",
        best: str | None = None,
        deleted: float | None = None,
        **checkpoints: Any,
    ) -> None:
        """Stores a study whose trials were all trained up to the last step."""
        space = {"lr": {"choices": [0.1, 0.2]}}
        study = build_study(name, steps=STEPS, space=space, checkpoints=checkpoints)
        status = {"updated": 1.0, "state": state, "message": "", "best": 0, "bestKey": best}
        document: dict[str, Any] = {
            "study": study.model_dump(mode="json", by_alias=True, exclude_none=True),
            "status": {key: value for key, value in status.items() if value is not None},
        }
        if deleted is not None:
            document["deleted"] = deleted
        self.store.write_study(name, document)
        for index, written in enumerate(trials):
            self.store.write_decision(
                name,
                Decision(
                    index=index,
                    kind="suggest",
                    trial=index,
                    steps=STEPS,
                    hyperparameters=written,
                    reason="next of the grid",
                ),
            )

    def add_checkpoint(
        self,
        written: dict[str, Any],
        step: int,
        *,
        size: int = 100,
        chain: str = "c0",
        apart: str = "",
    ) -> str:
        key = self.key(written, step, apart)
        self.store.write_checkpoint(
            key=key,
            step=step,
            chunks=[bytes(size)],
            state_digest="0" * 64,
            fingerprint={},
            chain=chain,
        )
        return key

    def add_chain(self, written: dict[str, Any], *studies: str, ended: bool = True) -> str:
        """Stores a chain that trained all steps, ten seconds each, and reported the last result."""
        self._chains += 1
        chain = f"c{self._chains}"
        spent: dict[str, Any] = {
            "chain": chain,
            "step": STEPS,
            "trained": STEPS,
            "train_seconds": 10.0 * STEPS,
            "worker_seconds": 10.0 * STEPS,
        }
        self.store.write_report(
            Began(
                chain=chain,
                sequence_number=0,
                step=0,
                studies=studies,
                fingerprint={},
                start_seconds=1.0,
                load_seconds=0.0,
            )
        )
        self.store.write_report(
            MetricsReported(
                **spent,
                sequence_number=1,
                key=self.key(written, STEPS),
                metrics={"score": 1.0},
                evaluate_seconds=0.1,
            )
        )
        if ended:
            self.store.write_report(Ended(**spent, sequence_number=2, outcome=Outcome.COMPLETED))
        return chain

    def stored(self) -> set[str]:
        """Returns the keys of the checkpoints that would load."""
        records = self.store.load()
        for manifest in records.manifests.values():
            self.store.read_checkpoint(manifest)
        return set(records.manifests)
