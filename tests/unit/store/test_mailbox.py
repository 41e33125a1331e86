"""The mailbox of an external study: one order of requests, one answer to each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hippo.protocol.requests import Close, Over, Promote, Reached, Stop, Suggest, Taken
from hippo.store import DirectoryBlobs, MissingBlob, NewerFormat, PlanStore
from hippo.store.mailbox import Mailbox, Unreadable

REQUESTS = [
    Suggest(hyperparameters={"lr": {"step": {"initial": 1, "gamma": 2, "every": 3}}}, steps=4),
    Promote(trial=0, steps=9),
    Stop(trial=0),
    Close(),
]


@pytest.fixture
def box(tmp_path: Path) -> Mailbox:
    return Mailbox(DirectoryBlobs(tmp_path), "plan", "study")


def test_requests_are_read_as_they_were_written(box: Mailbox) -> None:
    assert box.count() == 0
    assert [box.post(request) for request in REQUESTS] == [0, 1, 2, 3]
    assert box.count() == 4
    assert [box.read(number) for number in range(4)] == REQUESTS
    with pytest.raises(MissingBlob):
        box.read(4)


def test_many_writers_give_one_order_without_gaps(tmp_path: Path) -> None:
    def post(writer: int) -> list[int]:
        box = Mailbox(DirectoryBlobs(tmp_path), "plan", "study")
        return [box.post(Stop(trial=writer)) for _ in range(10)]

    with ThreadPoolExecutor(4) as pool:
        numbers = [number for written in pool.map(post, range(4)) for number in written]
    assert sorted(numbers) == [*range(40)]
    assert Mailbox(DirectoryBlobs(tmp_path), "plan", "study").count() == 40


@pytest.mark.parametrize("text", ["", "{", "{}", '{"kind": "dance"}', '{"kind": "stop"}', "[1]"])
def test_what_is_no_request_is_told(tmp_path: Path, box: Mailbox, text: str) -> None:
    DirectoryBlobs(tmp_path).put("plan/studies/study/requests/000000.json", text.encode())
    with pytest.raises(Unreadable, match=r"^request 0 cannot be read"):
        box.read(0)


def test_a_newer_request_is_not_guessed_at(tmp_path: Path, box: Mailbox) -> None:
    text = b'{"kind": "close", "formatVersion": 99}'
    DirectoryBlobs(tmp_path).put("plan/studies/study/requests/000000.json", text)
    with pytest.raises(NewerFormat):
        box.read(0)


def test_the_first_answer_stands(box: Mailbox) -> None:
    answers = [
        Taken(request=0, name="study-0"),
        Taken(request=1, refused="no"),
        Reached(trial=0, step=4, metrics={"loss": float("inf"), "accuracy": 0.5}),
        Over(trial=0, phase="Stopped", reason="enough"),
    ]
    for answer in [*answers, Taken(request=1, refused="never"), Taken(request=0, name="other")]:
        box.answer(answer)
    found = box.read_answers()
    assert sorted(found.values(), key=repr) == sorted(answers, key=repr)
    assert {box.name_of(answer) for answer in answers} == set(found)
    assert box.read_answers(found) == {}


def test_a_study_that_is_deleted_leaves_no_request(tmp_path: Path, box: Mailbox) -> None:
    box.post(Close())
    box.answer(Taken(request=0, refused="no"))
    PlanStore(DirectoryBlobs(tmp_path), "plan").delete_study("study")
    assert (box.count(), box.read_answers()) == (0, {})
