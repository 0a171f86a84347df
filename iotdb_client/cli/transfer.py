"""Results to files and Parquet files to devices, with progress, and from where a run was ended."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from iotdb_client.cli.csv_cells import csv_line
from iotdb_client.cli.tables import cell_renderers
from iotdb_client.connection import Connection
from iotdb_client.cursor import Cursor
from iotdb_client.errors import Error
from iotdb_client.frames import need
from iotdb_client.inserts import is_query

Rows = Callable[[int], None]
"""Receives the rows done so far."""

_BLOCK_ROWS = 10_000


class TransferProblem(Exception):
    """The export or import can't go on; the message says why."""


@contextmanager
def whole_file(path: Path, *, resume: bool) -> Iterator[Path]:
    """Give a file that can be read more than once: `path`, or a copy of what a pipe gives.

    A pipe gives everything once. Who read it twice would miss what the first reading took.

    Raises:
        TransferProblem: it can't be read or copied, or is to be resumed but is a pipe.
    """
    if path.is_file():
        yield path
        return
    if resume:
        raise TransferProblem("it is no file, so there is no place in it for --resume to keep")
    with tempfile.NamedTemporaryFile(prefix="iotdb-import-") as copy:
        try:
            with path.open("rb") as source:
                shutil.copyfileobj(source, copy)
            copy.flush()
        except OSError as error:
            raise TransferProblem(error.strerror or str(error)) from error
        yield Path(copy.name)


# ---- places ----


class Place:
    """How far an import got, in a small file beside the one that is imported.

    Args:
        path: of what is imported.
        device: where to.
        keep: False: nothing is kept or looked up.
    """

    def __init__(self, path: Path, device: str, *, keep: bool) -> None:
        self._file = path.with_name(f"{path.name}.import")
        self._keep = keep
        found = path.stat()
        self._of = {"device": device, "bytes": found.st_size, "changed_ns": found.st_mtime_ns}

    def rows(self) -> int:
        """Return the rows that were written before.

        Raises:
            TransferProblem: the note is of another file, or of another import of this one, or
                can't be read.
        """
        if not self._keep or not self._file.exists():
            return 0
        try:
            note = json.loads(self._file.read_text(encoding="utf-8"))
            rows = int(note.pop("rows"))
        except OSError as error:
            raise TransferProblem(f"{self._file} can't be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise TransferProblem(f"{self._file} is damaged ({error}): delete it") from error
        if note != self._of:
            raise TransferProblem(
                f"{self._file} is of another import, or of the file before it changed: "
                "delete it to start anew"
            )
        return rows

    def note(self, rows: int) -> None:
        """Keep that so many rows are written; raises TransferProblem where that fails."""
        if not self._keep:
            return
        made = self._file.with_suffix(".import-new")
        try:
            made.write_text(json.dumps({**self._of, "rows": rows}), encoding="utf-8")
            made.replace(self._file)
        except OSError as error:
            raise TransferProblem(f"{self._file} can't be written: {error.strerror}") from error

    def done(self) -> None:
        """Forget the place: everything is written; raises TransferProblem where that fails."""
        if not self._keep:
            return
        try:
            self._file.unlink(missing_ok=True)
        except OSError as error:
            raise TransferProblem(f"{self._file} can't be removed: {error.strerror}") from error


# ---- export ----


def export_result(
    connection: Connection,
    sql: str,
    path: Path,
    *,
    resume: bool,
    numbers: bool,
    progress: Rows,
) -> int:
    """Write a result to a file, `.parquet` or CSV by its name; return its rows.

    The file appears when it is complete; until then the rows are in `FILE.part`. A pipe or device
    is no file that could be replaced: it gets the rows as they come.

    Args:
        connection: to the server.
        sql: a query.
        path: of the file; of a link the file that it leads to.
        resume: go on with a CSV's part, where the query gives the same rows again.
        numbers: times as numbers in CSV.
        progress: told of the rows written.

    Raises:
        TransferProblem: the query has no rows to give, the file can't be written, or `resume` does
            not fit.
        Error: of the query; what was written stays in the part.
    """
    in_place = path.exists() and not path.is_file()
    if in_place and resume:
        raise TransferProblem(f"{path} is no file that --resume could go on with")
    if in_place and _is_parquet(path) and not _can_be_sought(path):
        raise TransferProblem(
            f"{path} is a pipe, or something like it: Parquet needs a file in which one can go "
            "back. Export to a file, or CSV to this"
        )
    if path.is_symlink() and not in_place:
        path = path.resolve()
    part = path if in_place else path.with_name(f"{path.name}.part")
    try:
        rows = _export(connection, sql, path, part, resume=resume, numbers=numbers, tell=progress)
        if not in_place:
            part.replace(path)
    except OSError as error:
        raise TransferProblem(f"{path}: {error.strerror or error}") from error
    return rows


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _can_be_sought(path: Path) -> bool:
    """Whether one can go back in what is no regular file."""
    mode = path.stat().st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        return False  # to open it might take until somebody reads
    try:
        with path.open("ab") as file:
            return file.seekable()
    except OSError as error:
        raise TransferProblem(f"{path}: {error.strerror or error}") from error


def _export(
    connection: Connection,
    sql: str,
    path: Path,
    part: Path,
    *,
    resume: bool,
    numbers: bool,
    tell: Rows,
) -> int:
    if not is_query(sql):
        raise TransferProblem("that is no query, so it was not run: there is nothing to export")
    with connection.cursor() as cursor:
        cursor.execute(sql)
        if cursor.description is None:
            raise TransferProblem("there is no result to export")
        if _is_parquet(path):
            if resume:
                raise TransferProblem("a Parquet file is written in one go: leave --resume out")
            return _export_parquet(cursor, part, tell)
        return _export_csv(cursor, connection, part, resume=resume, numbers=numbers, progress=tell)


def _export_csv(
    cursor: Cursor,
    connection: Connection,
    part: Path,
    *,
    resume: bool,
    numbers: bool,
    progress: Rows,
) -> int:
    description = cursor.description or ()
    renderers = cell_renderers(
        description, connection.zone, connection.timestamp_precision, numbers=numbers
    )

    def line(row: tuple[Any, ...]) -> str:
        return csv_line(
            [
                cell if cell is None or isinstance(cell, str) else render(cell)
                for render, cell in zip(renderers, row, strict=True)
            ]
        )

    header = csv_line([column.name for column in description])
    kept = whole_records(part, header) if resume and part.exists() else Kept(0, "")
    rows = max(0, kept.records - 1)
    if rows:
        before = _skip(cursor, rows)
        if before is None or line(before) != kept.last:
            raise TransferProblem(
                f"the query does not give the rows that are in {part}: delete it to start anew"
            )
    with part.open("a" if rows else "w", encoding="utf-8", newline="\n") as out:
        if not rows:
            out.write(header + "\n")
        while block := cursor.fetchmany(_BLOCK_ROWS):
            out.write("".join(line(row) + "\n" for row in block))
            rows += len(block)
            progress(rows)
        out.flush()
        if part.is_file():
            os.fsync(out.fileno())
    return rows


class Kept(NamedTuple):
    """The whole records of a part: how many, the header among them, and the last one."""

    records: int
    last: str


def whole_records(part: Path, header: str) -> Kept:
    """Read a part, and cut a torn record off; raises TransferProblem when it has other columns."""
    records = whole = quotes = 0
    first: bytes | None = None
    last = record = b""
    with part.open("rb") as file:
        for line in file:
            record += line
            quotes += line.count(b'"')
            if not line.endswith(b"\n") or quotes % 2:
                continue  # torn, or a text with the end of a line in it
            records += 1
            whole += len(record)
            last, record, quotes = record[:-1], b"", 0
            first = last if first is None else first
    os.truncate(part, whole)
    if first is not None and first != header.encode():
        raise TransferProblem(f"{part} has other columns: delete it to start anew")
    return Kept(records, last.decode("utf-8", "replace"))


def _skip(cursor: Cursor, rows: int) -> tuple[Any, ...] | None:
    """Read so many rows away; return the last of them."""
    last = None
    while rows:
        block = cursor.fetchmany(min(rows, _BLOCK_ROWS))
        if not block:
            return None
        last = block[-1]
        rows -= len(block)
    return last


def _export_parquet(cursor: Cursor, part: Path, progress: Rows) -> int:
    need("pyarrow", "arrow")
    parquet = need("pyarrow.parquet", "arrow")
    writer = None
    rows = 0
    try:
        for table in cursor.arrow_batches():
            if writer is None:
                writer = parquet.ParquetWriter(part, table.schema)
            writer.write_table(table)
            rows += table.num_rows
            progress(rows)
    finally:
        if writer is not None:
            writer.close()
    return rows


# ---- import of Parquet ----


def import_parquet(
    connection: Connection,
    path: Path,
    device: str,
    *,
    time_column: str,
    aligned: bool,
    place: Place,
    progress: Callable[[int, int], None],
) -> int:
    """Write a Parquet file's rows to a device; return how many were written now.

    Raises:
        TransferProblem: the file can't be read, or the server refuses; `place` knows how far it
            got.
        Error: pyarrow is missing.
    """
    arrow = need("pyarrow", "arrow")
    parquet = need("pyarrow.parquet", "arrow")
    try:
        source = parquet.ParquetFile(path)
    except (OSError, arrow.ArrowException) as error:
        raise TransferProblem(str(error)) from error
    total = source.metadata.num_rows
    done = skipped = place.rows()
    try:
        for table in _tables(arrow, source, skipped):
            try:
                connection.insert_arrow(device, table, time_column=time_column, aligned=aligned)
            except Error as error:
                raise TransferProblem(f"rows from {done + 1} on: {error}") from error
            done += table.num_rows
            place.note(done)
            progress(done, total)
    except (OSError, arrow.ArrowException) as error:
        raise TransferProblem(f"rows from {done + 1} on: {error}") from error
    place.done()
    return done - skipped


def _tables(arrow: Any, source: Any, skip: int) -> Iterator[Any]:  # noqa: ANN401
    for batch in source.iter_batches(_BLOCK_ROWS):
        if skip >= batch.num_rows:
            skip -= batch.num_rows
            continue
        piece = batch.slice(skip)
        skip = 0
        yield arrow.Table.from_batches([piece])
