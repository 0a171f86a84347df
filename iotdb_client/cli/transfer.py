"""Results to files and Parquet files to devices, with progress, and from where a run was ended."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from iotdb_client.cli.formats import csv_line
from iotdb_client.cli.tables import cell_renderers
from iotdb_client.connection import Connection
from iotdb_client.cursor import Cursor
from iotdb_client.errors import Error
from iotdb_client.frames import need

Rows = Callable[[int], None]
"""Receives the rows done so far."""

_BLOCK_ROWS = 10_000


class TransferProblem(Exception):
    """The export or import can't go on; the message says why."""


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
        stat = path.stat()
        self._of = {"device": device, "bytes": stat.st_size, "changed_ns": stat.st_mtime_ns}

    def rows(self) -> int:
        """Return the rows that were written before.

        Raises:
            TransferProblem: the note is of another file, or of another import of this one.
        """
        if not self._keep or not self._file.exists():
            return 0
        try:
            note = json.loads(self._file.read_text(encoding="utf-8"))
            rows = int(note.pop("rows"))
        except (ValueError, KeyError, TypeError) as error:
            raise TransferProblem(f"{self._file} is damaged ({error}): delete it") from error
        if note != self._of:
            raise TransferProblem(
                f"{self._file} is of another import, or of the file before it changed: "
                "delete it to start anew"
            )
        return rows

    def note(self, rows: int) -> None:
        """Keep that so many rows are written."""
        if self._keep:
            made = self._file.with_suffix(".import-new")
            made.write_text(json.dumps({**self._of, "rows": rows}), encoding="utf-8")
            made.replace(self._file)

    def done(self) -> None:
        """Forget the place: everything is written."""
        if self._keep:
            self._file.unlink(missing_ok=True)


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

    The file appears when it is complete; until then the rows are in `FILE.part`.

    Args:
        connection: to the server.
        sql: a query.
        path: of the file.
        resume: go on with a CSV's part, where the query gives the same rows again.
        numbers: times as numbers in CSV.
        progress: told of the rows written.

    Raises:
        TransferProblem: the query has no rows to give, or `resume` does not fit.
        Error: of the query; what was written stays in the part.
    """
    part = path.with_name(f"{path.name}.part")
    with connection.cursor() as cursor:
        cursor.execute(sql)
        if cursor.description is None:
            raise TransferProblem("that is no query: there is nothing to export")
        if path.suffix.lower() == ".parquet":
            if resume:
                raise TransferProblem("a Parquet file is written in one go: leave --resume out")
            rows = _export_parquet(cursor, connection.timestamp_precision, part, progress)
        else:
            rows = _export_csv(
                cursor, connection, part, resume=resume, numbers=numbers, progress=progress
            )
    part.replace(path)
    return rows


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
                "" if cell is None else cell if isinstance(cell, str) else render(cell)
                for render, cell in zip(renderers, row, strict=True)
            ]
        )

    header = csv_line([column.name for column in description])
    kept = _whole_lines(part, header) if resume and part.exists() else []
    rows = max(0, len(kept) - 1)
    if rows:
        before = _skip(cursor, rows)
        if before is None or line(before) != kept[-1]:
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
        os.fsync(out.fileno())
    return rows


def _whole_lines(part: Path, header: str) -> list[str]:
    """Return the records of a part, and cut a torn one off."""
    text = part.read_text(encoding="utf-8")
    records: list[str] = []
    at = 0
    open_record = ""
    while (end := text.find("\n", at)) >= 0:
        open_record += text[at:end]
        at = end + 1
        if open_record.count('"') % 2:
            open_record += "\n"  # a text with a line end in it
            continue
        records.append(open_record)
        open_record = ""
    whole = sum(len(record.encode()) + 1 for record in records)
    os.truncate(part, whole)
    if records and records[0] != header:
        raise TransferProblem(f"{part} has other columns: delete it to start anew")
    return records


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


def _export_parquet(cursor: Cursor, precision: str, part: Path, progress: Rows) -> int:
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
        raise TransferProblem(f"{path}: {error}") from error
    total = source.metadata.num_rows
    done = skipped = place.rows()
    for table in _tables(arrow, source, skipped):
        try:
            connection.insert_arrow(device, table, time_column=time_column, aligned=aligned)
        except Error as error:
            raise TransferProblem(f"rows from {done + 1} on: {error}") from error
        done += table.num_rows
        place.note(done)
        progress(done, total)
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
