"""The contract of all stores. A store is tested by a subclass with the fixture ``url``."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hippo.store import BlobInfo, Blobs, MissingBlob, Unreadable, open_blobs
from tests.unit.store import processes

_COMPETITOR = """
import sys
from hippo.store import open_blobs
blobs, letter, names = open_blobs(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for i in range(names):
    if blobs.put(f"race/{i}", [letter.encode() * 5000] * 4, if_absent=True):
        print(i)
"""

_REPLACER = """
import sys
from hippo.store import open_blobs
blobs, letter = open_blobs(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for i in range(40):
    blobs.put("shared/one", [letter.encode() * 5000] * 4)
"""

STALLED_WRITER = """
import sys
from hippo.store import open_blobs
def chunks():
    yield b"x" * 100000
    print("writing", flush=True)
    sys.stdin.readline()
    yield b"y" * 100000
open_blobs(sys.argv[1]).put(sys.argv[2], chunks())
print("written", flush=True)
"""

STALLED_LARGE_WRITER = STALLED_WRITER.replace('b"x" * 100000', 'b"x" * 12900000')

BAD_NAMES = [
    *("", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a/.b", ".a", "~", "a b", "ä", "a\\b"),
    *("a\n", "a\0", "a?b", "a%2Fb", "x" * 201, "/".join(["x" * 100] * 11)),
]


class BlobsContract:
    @pytest.fixture
    def blobs(self, url: str) -> Blobs:
        return open_blobs(url)

    def test_no_more_is_read_than_asked_for(self, blobs: Blobs) -> None:
        blobs.put("empty", b"")
        blobs.put("large", bytes(30_000_000))
        assert blobs.get("empty", at_most=0) == b""
        assert blobs.get("large", at_most=30_000_000) == bytes(30_000_000)
        tracemalloc.start()
        try:
            with pytest.raises(Unreadable, match=r"large cannot be read: .*30,000,000 bytes"):
                blobs.get("large", at_most=29_999_999)
            with pytest.raises(MissingBlob):
                blobs.get("none", at_most=10)
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()
        assert blobs.get("empty", at_most=0) == b"", "the connection is as good as before"

    def test_what_is_put_is_got(self, blobs: Blobs) -> None:
        assert blobs.put("a/b.json", b"one") is True
        assert blobs.get("a/b.json") == b"one"
        with blobs.stream("a/b.json") as file:
            assert file.read(2) == b"on"
            assert file.read() == b"e"

    def test_put_replaces(self, blobs: Blobs, url: str) -> None:
        blobs.put("a", b"a long one")
        assert blobs.put("a", b"short") is True
        assert open_blobs(url).get("a") == b"short"

    def test_the_first_writer_wins_with_if_absent(self, blobs: Blobs) -> None:
        assert blobs.put("a/b", b"one", if_absent=True) is True
        assert blobs.put("a/b", b"two", if_absent=True) is False
        assert blobs.get("a/b") == b"one"

    def test_after_a_delete_there_is_a_first_writer_again(self, blobs: Blobs) -> None:
        blobs.put("a/b/c", b"one", if_absent=True)
        blobs.delete("a/b/c")
        assert blobs.put("a/b/c", b"two", if_absent=True) is True
        assert blobs.get("a/b/c") == b"two"

    def test_chunks_are_joined(self, blobs: Blobs) -> None:
        numbers: Any = memoryview(bytes(range(16))).cast("I", (2, 2))
        empty: Any = memoryview(b"").cast("I")
        blobs.put("a", iter([b"<", numbers, b"", empty, memoryview(b">")]))
        assert blobs.get("a") == b"<" + bytes(range(16)) + b">"

    @pytest.mark.parametrize("chunks", [b"", []])
    def test_a_blob_may_be_empty(self, blobs: Blobs, chunks: bytes) -> None:
        blobs.put("a", chunks)
        assert blobs.get("a") == b""
        assert blobs.list("") == [BlobInfo("a", 0)]

    def test_an_iterator_that_fails_leaves_no_trace(self, blobs: Blobs) -> None:
        def chunks() -> Iterator[bytes]:
            yield b"half"
            raise KeyError("no more")

        for if_absent in (False, True):
            with pytest.raises(KeyError):
                blobs.put("a/b", chunks(), if_absent=if_absent)
        assert blobs.list("") == []
        with pytest.raises(MissingBlob):
            blobs.get("a/b")

    def test_a_large_one_that_fails_leaves_no_trace_either(self, blobs: Blobs) -> None:
        def chunks() -> Iterator[bytes]:
            yield b"x" * 12_000_000
            raise KeyboardInterrupt

        for if_absent in (False, True):
            with pytest.raises(KeyboardInterrupt):
                blobs.put("a/b", chunks(), if_absent=if_absent)
        assert blobs.list("") == []
        assert blobs.clean(older_than_seconds=-60) == 0

    @pytest.mark.parametrize("is_held", [True, False])
    def test_the_first_writer_wins_with_large_blobs_too(self, blobs: Blobs, is_held: bool) -> None:
        size = 40_000_000

        def put(letter: bytes) -> bool:
            pieces = [letter * (size // 4)] * 4
            return blobs.put("a/b", pieces if is_held else iter(pieces), if_absent=True)

        with ThreadPoolExecutor() as threads:
            won = list(threads.map(put, [b"A", b"B"]))
        assert sorted(won) == [False, True]
        data = blobs.get("a/b")
        assert data == (b"A" if won[0] else b"B") * size
        assert put(b"C") is False
        assert blobs.get("a/b") == data
        assert blobs.clean(older_than_seconds=-60) == 0, "the loser has left nothing"

    def test_a_missing_blob_is_named(self, blobs: Blobs) -> None:
        blobs.put("folder/blob", b"")
        for name in ("missing", "folder", "folder/missing", "no/folder", "folder/blob/below"):
            with pytest.raises(MissingBlob, match=name):
                blobs.get(name)
            with pytest.raises(MissingBlob, match=name), blobs.stream(name):
                pass

    def test_delete_is_idempotent(self, blobs: Blobs) -> None:
        blobs.put("a/b", b"1")
        blobs.put("a/c", b"2")
        for _ in range(2):
            blobs.delete("a/b")
        blobs.delete("a")
        blobs.delete("a/c/below")
        blobs.delete("never/there")
        assert blobs.list("") == [BlobInfo("a/c", 1)]

    def test_a_stream_outlives_its_name(self, blobs: Blobs) -> None:
        blobs.put("a", b"old" * 100_000)
        with blobs.stream("a") as file:
            blobs.put("a", b"new")
            blobs.delete("a")
            assert file.read() == b"old" * 100_000

    def test_a_prefix_is_text_not_a_folder(self, blobs: Blobs) -> None:
        sizes = {"a/b": 1, "a/bc": 2, "a/c/d": 3, "a/c.e": 4, "b": 5, "a-z/y": 6, "a/c/a/b/c": 7}
        for name, size in sizes.items():
            blobs.put(name, b"x" * size)
        for prefix in ("", "a", "a/", "a/b", "a/c", "a/c/", "a/c.", "a-", "b", "c", "a/c/a/b/c"):
            expected = sorted(name for name in sizes if name.startswith(prefix))
            assert blobs.list(prefix) == [BlobInfo(name, sizes[name]) for name in expected]

    def test_a_list_may_begin_behind_a_name(self, blobs: Blobs) -> None:
        names = ["a/1", "a/2", "a/2x", "a/2-y", "a/3", "b/1"]
        for name in names:
            blobs.put(name, b"")
        for prefix in ("", "a/", "a/2"):
            for after in ("", "a", "a/", "a/1", "a/2", "a/2/", "a/9", "b", "c"):
                expected = sorted(n for n in names if n.startswith(prefix) and n > after)
                assert [info.name for info in blobs.list(prefix, after=after)] == expected
        with pytest.raises(ValueError, match="not a prefix"):
            blobs.list("a", after="/a")

    def test_nothing_is_in_a_new_store(self, blobs: Blobs) -> None:
        assert blobs.list("") == []
        assert blobs.list("a/b") == []
        blobs.delete("a")

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_bad_names_are_refused(self, blobs: Blobs, name: str) -> None:
        for call in (blobs.get, blobs.delete, lambda name: blobs.put(name, b"")):
            with pytest.raises(ValueError, match="not a blob name"):
                call(name)
        with pytest.raises(ValueError, match="not a blob name"), blobs.stream(name):
            pass
        assert blobs.list("") == []

    @pytest.mark.parametrize("prefix", ["/", "a//", "../", "a/..", ".", "a\n", "a b"])
    def test_bad_prefixes_are_refused(self, blobs: Blobs, prefix: str) -> None:
        with pytest.raises(ValueError, match="not a prefix"):
            blobs.list(prefix)

    def test_large_blobs_pass_through_without_being_held(self, blobs: Blobs) -> None:
        mebibyte = 1 << 20

        def chunks() -> Iterator[bytes]:
            for i in range(48):
                yield bytes([i]) * mebibyte

        tracemalloc.start()
        try:
            blobs.put("large", chunks())
            with blobs.stream("large") as file:
                for i in range(48):
                    assert file.read(mebibyte) == bytes([i]) * mebibyte
                assert file.read(1) == b""
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 8 * mebibyte

    @pytest.mark.slow
    def test_exactly_one_of_many_processes_is_first(self, blobs: Blobs, url: str) -> None:
        letters, names = "ABC", 60
        writers = [processes.start(_COMPETITOR, url, letter, str(names)) for letter in letters]
        for writer in writers:
            processes.expect(writer, "ready")
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        while any(writer.poll() is None for writer in writers):
            for info in blobs.list("race/"):
                data = blobs.get(info.name)
                assert info.size == len(data) == 20_000
                assert len(set(data)) == 1
        won: dict[str, str] = {}
        for letter, writer in zip(letters, writers, strict=True):
            output = writer.communicate()[0]
            assert writer.returncode == 0, output
            for line in output.splitlines():
                assert won.setdefault(line, letter) == letter, f"two were first at {line}"
        assert sorted(won, key=int) == [str(i) for i in range(names)]
        for i, letter in won.items():
            assert blobs.get(f"race/{i}") == letter.encode() * 20_000

    @pytest.mark.slow
    def test_a_blob_replaced_by_many_is_always_whole(self, blobs: Blobs, url: str) -> None:
        blobs.put("shared/one", b"A" * 20_000)
        writers = [processes.start(_REPLACER, url, letter) for letter in "AB"]
        for writer in writers:
            processes.expect(writer, "ready")
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        while any(writer.poll() is None for writer in writers):
            assert blobs.get("shared/one") in (b"A" * 20_000, b"B" * 20_000)
        for writer in writers:
            output = writer.communicate()[0]
            assert (writer.returncode, output) == (0, "")

    def test_a_writer_killed_in_mid_write_leaves_no_blob(self, blobs: Blobs, url: str) -> None:
        with processes.start(STALLED_WRITER, url, "a/b") as writer:
            processes.expect(writer, "writing")
            assert blobs.list("") == []
            writer.kill()
        assert blobs.list("") == []
        assert blobs.put("a/b", b"whole", if_absent=True) is True
        assert blobs.get("a/b") == b"whole"

    def test_what_a_killed_writer_left_is_cleaned(self, blobs: Blobs, url: str) -> None:
        blobs.put("a/b", b"whole")
        with processes.start(STALLED_LARGE_WRITER, url, "a/b") as writer:
            processes.expect(writer, "writing")
            writer.kill()
        assert blobs.clean(older_than_seconds=-60) == 1
        assert blobs.clean(older_than_seconds=-60) == 0
        assert blobs.get("a/b") == b"whole"

    def test_cleaning_spares_who_still_writes(self, blobs: Blobs, url: str) -> None:
        with processes.start(STALLED_LARGE_WRITER, url, "a/b") as writer:
            processes.expect(writer, "writing")
            assert blobs.clean(older_than_seconds=3600) == 0
            assert writer.stdin is not None
            writer.stdin.write("go on\n")
            writer.stdin.flush()
            processes.expect(writer, "written")
        assert len(blobs.get("a/b")) == 13_000_000
