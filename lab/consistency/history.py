"""The history on disk: `history.jsonl`, one finished request per line, and a last line that says it is complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import msgspec

from lab.consistency.patience import collector_resting
from lab.errors import LabError, from_os_error
from loadtests.recorder import Operation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import BufferedReader, BufferedWriter
    from pathlib import Path

__all__ = ["FILE_NAME", "HistoryError", "HistoryWriter", "read_history", "write_history"]

FILE_NAME = "history.jsonl"
"""Its name in a run's folder."""


class HistoryError(LabError):
    """A history cannot be read, or is not one that the checks can speak about."""


class _Trailer(msgspec.Struct, forbid_unknown_fields=True):
    """The last line: without it, nobody could tell a whole history from the beginning of one."""

    complete: bool
    operations: int


class HistoryWriter:
    """Writes a history as it happens; the last line is written when all went well.

    Use it as a context manager: an exception leaves a history without its last line, which no reader takes for whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._encoder = msgspec.json.Encoder()
        self._count = 0
        try:
            self._file: BufferedWriter = path.open("wb")
        except OSError as error:
            raise from_os_error(error) from error

    def append(self, operations: Iterable[Operation]) -> None:
        """Write finished requests, one line each.

        Raises:
            LabError: the disk is full, or the like.
        """
        batch = list(operations)
        self._write(self._encoder.encode_lines(batch))
        self._count += len(batch)

    def finish(self) -> None:
        """Write the last line and close the file."""
        self._write(self._encoder.encode(_Trailer(complete=True, operations=self._count)) + b"\n")
        self._file.close()

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise from_os_error(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()
        else:
            self._file.close()


def write_history(path: Path, operations: Iterable[Operation]) -> None:
    """Write a whole history at once; see `HistoryWriter`."""
    with HistoryWriter(path) as writer:
        writer.append(operations)


@collector_resting()
def read_history(path: Path) -> list[Operation]:
    """Read a whole history.

    Args:
        path: the file `history.jsonl` of a run.

    Returns:
        The operations, in the order of the file.

    Raises:
        HistoryError: the file is missing, truncated or not a history; the text is one line.
    """
    try:
        with path.open("rb") as file:
            return list(_read(path, file))
    except FileNotFoundError:
        raise HistoryError(f"{path}: there is no history here. A run that was interrupted early leaves none.") from None
    except OSError as error:
        raise HistoryError(f"{path}: cannot be read ({error.strerror}).") from error


def _read(path: Path, file: BufferedReader) -> Iterator[Operation]:
    decoder = msgspec.json.Decoder(Operation)
    previous, count = b"", 0
    for line in file:
        if previous:
            yield _operation(path, decoder, previous, count)
        previous, count = line, count + 1
    _check_trailer(path, previous, count - 1)


def _operation(path: Path, decoder: msgspec.json.Decoder[Operation], line: bytes, number: int) -> Operation:
    try:
        operation = decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HistoryError(f"{path}: line {number} is not a request of a history ({error}).") from None
    if operation.t1_ns < operation.t0_ns:
        raise HistoryError(f"{path}: line {number} ends before it begins: its clock cannot be trusted.")
    return operation


def _check_trailer(path: Path, line: bytes, count: int) -> None:
    try:
        trailer = msgspec.json.decode(line, type=_Trailer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise HistoryError(
            f"{path}: truncated after line {max(count, 0)}: the last line, which says that it is complete, is missing."
        ) from None
    if not trailer.complete or trailer.operations != count:
        raise HistoryError(f"{path}: {trailer.operations} requests were written, but {count} are here.")
