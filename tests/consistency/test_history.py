"""The history on disk: whole, or one clear line about what is wrong."""

from __future__ import annotations

import errno

import pytest
from stories import Story

from lab.consistency.history import HistoryError, HistoryWriter, read_history, write_history
from lab.errors import LabError


@pytest.fixture
def operations():
    """Three requests with every kind of field."""
    story = Story("shopping").add("a", 0, 1, cart="a:2", user="s1", recent=[3], presented="h1", late="logout")
    return story.view(2, 3, None, outcome="fail", error="timed out").final("a").operations


@pytest.fixture
def path(tmp_path, operations):
    """A whole history of three requests."""
    write_history(tmp_path / "history.jsonl", operations)
    return tmp_path / "history.jsonl"


def test_what_was_written_is_read(path, operations):
    """Every field survives, in the same order."""
    assert operations == read_history(path)


def test_history_grows_line_by_line(tmp_path, operations):
    """Batches end up in one history; it is whole only when the writer has finished."""
    path = tmp_path / "history.jsonl"
    with HistoryWriter(path) as writer:
        writer.append(operations[:1])
        with pytest.raises(HistoryError, match="truncated"):
            read_history(path)
        writer.append(operations[1:])

    assert operations == read_history(path)


def test_empty_history_is_whole(tmp_path):
    """No requests, and a last line that says so."""
    write_history(tmp_path / "history.jsonl", [])

    assert read_history(tmp_path / "history.jsonl") == []


def test_exception_leaves_a_history_that_nobody_takes_for_whole(tmp_path, operations):
    """An interrupted run has no last line."""
    path = tmp_path / "history.jsonl"

    def interrupted():
        with HistoryWriter(path) as writer:
            writer.append(operations)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    with pytest.raises(HistoryError, match="truncated after line 2"):
        read_history(path)


def test_every_truncation_is_noticed(path):
    """Wherever the file is cut, reading it is an error of one line."""
    data = path.read_bytes()

    for length in range(0, len(data) - 1, 7):
        path.write_bytes(data[:length])
        with pytest.raises(HistoryError) as caught:
            read_history(path)
        assert "\n" not in str(caught.value)


def test_missing_line_is_noticed(path):
    """The last line says how many there must be."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[1:]))

    with pytest.raises(HistoryError, match="3 requests were written, but 2 are here"):
        read_history(path)


def test_missing_file_is_one_clear_line(tmp_path):
    """The text names the file."""
    with pytest.raises(HistoryError, match=r"history.jsonl: there is no history here"):
        read_history(tmp_path / "history.jsonl")


@pytest.mark.parametrize("garbage", [b"hello\n", b"\xff\xfe\n", b'{"i": 1}\n', b"[]\n", b"\n"])
def test_garbage_is_one_clear_line(path, garbage):
    """The text names the line."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + garbage + b"".join(lines[1:]))

    with pytest.raises(HistoryError, match="line 2 is not a request"):
        read_history(path)


def test_request_that_ends_before_it_begins_is_refused(tmp_path):
    """A clock that runs backwards makes every order meaningless."""
    path = tmp_path / "history.jsonl"
    write_history(path, Story().view(5, 4, "").operations)

    with pytest.raises(HistoryError, match="line 1 ends before it begins"):
        read_history(path)


def test_full_disk_is_one_clear_line(path, operations, monkeypatch):
    """What the operating system refuses is told in the lab's words."""

    class Full:
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            pass

    writer = HistoryWriter(path)
    writer._file.close()
    monkeypatch.setattr(writer, "_file", Full())

    with pytest.raises(LabError, match="the disk is full"):
        writer.append(operations)


def test_unwritable_place_is_one_clear_line(tmp_path, operations):
    """The text names the file."""
    with pytest.raises(LabError, match="nowhere"):
        write_history(tmp_path / "nowhere" / "history.jsonl", operations)
