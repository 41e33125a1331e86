"""What keeps a plan from going on is said in its studies' statuses, once."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from hippo.kube.controller.plan_notices import PlanNotices
from hippo.kube.controller.study_faults import suspended
from hippo.kube.observability.metrics import Metrics
from hippo.kube.reconciler.context import Tools
from hippo.kube.resources import STUDY
from hippo.kube.settings import Settings
from hippo.kube.status.written import StudyStatuses
from hippo.store import DirectoryBlobs
from tests.unit.kube.memory import NAMESPACE, MemoryApi, add_study, run

MESSAGES = ["the store is away", "x" * 5_000, "\x1b[31mtwo\nlines\x00", ""]


@pytest.mark.parametrize("message", MESSAGES, ids=range(len(MESSAGES)))
def test_a_problem_that_stays_is_told_once_however_it_is_worded(
    message: str, tmp_path: Any
) -> None:
    server, told = MemoryApi(), []
    item = run(add_study(server, "a"))
    statuses = StudyStatuses(server.api)
    tools = Tools(
        server.api,
        DirectoryBlobs(tmp_path),
        Settings(store="s3://bucket"),
        Metrics(),
        lambda *event: told.append(event),
        unix_clock=itertools.count(1e9).__next__,
    )
    notices = PlanNotices(NAMESPACE, "plan", tools, statuses)
    for _ in range(3):
        run(notices.complain([item], "Store", message))
        statuses.saw(server.find(STUDY, "a"))  # as a watch tells of it
    assert (server.count("status", STUDY), len(told)) == (1, 1)


def test_a_study_that_stays_suspended_is_written_once() -> None:
    server = MemoryApi()
    item = run(add_study(server, "a"))
    statuses = StudyStatuses(server.api)
    for now in (1e9, 2e9):
        before = statuses.find(item.document)
        status = suspended(before, item, "plan", "x" * 5_000, now=now)
        run(statuses.write(item.document, status))
        statuses.saw(server.find(STUDY, "a"))
    assert server.count("status", STUDY) == 1
