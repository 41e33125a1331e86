"""The inventory of a plan's store: its studies, its checkpoints, and which study wants which.

Checkpoints are stored under hashes. A checkpoint's place in the tree of sequences is found by
inserting the sequences of all trials, taken from the studies' decisions. A checkpoint on no trial's
path (its study was forgotten) has no known place; the reports of the chain that wrote it may still
name its studies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hippo.engine.state import place_trial
from hippo.gc.retention_policy import Intent, read_intent
from hippo.model import signature
from hippo.plan import Checkpoint, Node, SearchPlan
from hippo.plan.restore import build_plan
from hippo.protocol.decisions import Decision
from hippo.protocol.reports import Began
from hippo.store import PlanRecords, PlanStore, StoreError, reading


@dataclass(slots=True)
class Inventory:
    """One plan as stored."""

    records: PlanRecords
    documents: dict[str, dict[str, Any]]  # of all studies, by name
    intents: tuple[Intent, ...]
    plan: SearchPlan  # of all trials
    places: dict[str, Checkpoint]  # places in that plan, by key; missing if unknown
    owners: Mapping[str, set[str]]  # studies with the checkpoint on their path, by key

    def holders(self, key: str, now: float) -> list[Intent]:
        """Returns the intents that want a checkpoint; if there are none, it may be removed."""
        owners = self.owners.get(key, ())
        return [i for i in self.intents if not i.is_over(now) and i.holds(key, owners, now)]

    def drop(self, key: str) -> None:
        """Forgets a checkpoint that is no longer stored."""
        self.records.manifests.pop(key, None)
        place = self.places.pop(key, None)
        if place is not None:
            self.plan.drop_checkpoint(place)


def read_inventory(store: PlanStore) -> Inventory:
    """Reads a plan's inventory.

    Raises StoreError if a study or its decisions cannot be read, or if a newer Hippo wrote any
    record of the plan: then nothing may be removed.
    """
    with reading(f"plan {store.plan}"):
        store.check_formats()
        documents = {name: store.read_study(name) for name in store.list_studies()}
        return build_inventory(store, store.load(), documents)


def build_inventory(
    store: PlanStore, records: PlanRecords, documents: dict[str, dict[str, Any]]
) -> Inventory:
    """Builds the inventory from records that were read already. Raises StoreError."""
    if records.signature is None and (documents or records.problems):
        raise StoreError(
            f"plan {store.plan}: its plan.json is missing or damaged: restore it from a backup, or"
            " delete the plan's folder"
        )
    described = records.signature or {}
    plan = build_plan(signature(described), records.manifests, records.reports)
    ways: dict[str, list[tuple[Node, int]]] = {}
    for name, document in documents.items():
        steps = document["study"]["spec"]["steps"]
        merge = described.get("merge") is not False
        ways[name] = _insert(plan, name, store.read_decisions(name), steps, merge=merge)
    places = {
        checkpoint.key: checkpoint
        for node in plan.nodes()
        for checkpoint in node.checkpoints.values()
    }
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for key, manifest in records.manifests.items():
        first = records.reports.get(manifest.chain, [None])[0]
        if isinstance(first, Began):
            owners[key].update(first.studies)
        elif records.problems and key not in places:  # its owner may be among the damaged records
            owners[key].update(documents)
    for name, ends in ways.items():
        for key in _on_the_way(ends):
            owners[key].add(name)
    intents = tuple(read_intent(document) for document in documents.values())
    return Inventory(records, documents, intents, plan, places, owners)


def _insert(
    plan: SearchPlan, study: str, decisions: Sequence[Decision], steps: int, *, merge: bool
) -> list[tuple[Node, int]]:
    """Inserts a study's trials into the plan; returns the end node and target step of each."""
    nodes: dict[int, Node] = {}
    reached: dict[int, int] = {}
    for decision in decisions:
        path = f"studies/{study}/decisions/{decision.index:06d}.json"
        with reading(f"decision {decision.index} of study {study} ({path})"):
            if decision.kind == "suggest":
                _, nodes[decision.trial] = place_trial(plan, study, decision, steps, merge=merge)
            if decision.kind in ("suggest", "promote"):
                reached[decision.trial] = decision.steps
    return [(node, reached[trial]) for trial, node in nodes.items()]


def _on_the_way(ends: list[tuple[Node, int]]) -> set[str]:
    """Returns the keys of the checkpoints stored up to these steps of these nodes."""
    found: set[str] = set()
    whole: set[Node] = set()  # nodes fully covered, including all above them
    for end, step in ends:
        node: Node | None = end.at(step)
        while node is not None and node not in whole:
            found.update(c.key for c in node.checkpoints.values() if c.step <= step)
            if step >= node.end:
                whole.add(node)
            node = node.parent
    return found
