"""Imports a CSV file into one device, in tablets.

The file is read twice: first to find the type of each column over the whole file, so that a column
of integers with one decimal number in its last line is DOUBLE from the start; then to write.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_client.cli.csv_cells import EMPTY_TEXT, quoted_empties
from iotdb_client.cli.csv_types import ColumnGuess, TimeParser, cell_parser, parse_type
from iotdb_client.cli.transfer import Place
from iotdb_client.errors import DataError, Error
from iotdb_client.paths import split_series
from iotdb_client.schema import SeriesSchema
from iotdb_client.session import Session
from iotdb_client.types import DataType

_TIME_NAMES = ("time", "timestamp", "datetime", "date", "ts")
_GUESS_ROWS = 4096

csv.field_size_limit(1 << 30)  # its own limit is 128 KiB, less than a text may have

Progress = Callable[[int, int], None]
"""Receives bytes read and rows written so far."""


class ImportProblem(Exception):
    """The import can't go on.

    Args:
        message: what is wrong, with the line of the file where there is one.
    """


@dataclass(frozen=True)
class ImportOptions:
    """How to read a file and where to write.

    Attributes:
        device: full path of the device.
        time_column: name in the header; None: one called time, timestamp, … or else the first.
        measurements: names to store the other columns under, in order; an empty one leaves its
            column out. None: the header's, of a full path of a series the last node.
        types: of the columns that are stored, in order; None: those of the series that exist, or
            found from the file.
        batch_rows: rows of a tablet.
        aligned: whether the device is (to be) aligned.
        delimiter: between cells.
    """

    device: str
    time_column: str | None = None
    measurements: Sequence[str] | None = None
    types: Sequence[str] | None = None
    batch_rows: int = 1000
    aligned: bool = False
    delimiter: str = ","


class Imported(NamedTuple):
    """What was written.

    Attributes:
        rows: of the file, those of an earlier run aside.
        points: values that are not null.
        types: of the columns.
        repeated: rows with the time of another row: where both have a value, the later one stays.
    """

    rows: int
    points: int
    types: dict[str, DataType]
    repeated: int


class _Target(NamedTuple):
    """A column of the file that is stored."""

    position: int
    name: str
    kind: DataType
    parse: Callable[[str], Any]


class CsvImport:
    """One import; `run` it once.

    Args:
        path: the file; UTF-8, with a header line.
        options: see there.
        parse_time: reads the cells of the time column.
    """

    def __init__(self, path: Path, options: ImportOptions, parse_time: TimeParser) -> None:
        self._path = path
        self._options = options
        self._parse_time = parse_time
        self.rows = 0
        self.points = 0
        self.skipped = 0
        self._times: list[npt.NDArray[np.int64]] = []

    def run(self, session: Session, progress: Progress, place: Place) -> Imported:
        """Import the file, from where `place` says that an earlier run ended.

        Raises:
            ImportProblem: a line or option is wrong, or the server refuses; `rows` says how many
                rows were written before.
        """
        header = self._header()
        time_position = self._time_position(header)
        targets = self._fitted(session, self._targets(header, time_position))
        times: list[int] = []
        rows: list[list[Any]] = []
        skip = place.rows()
        with self._reader() as reader:
            next(reader)
            for cells in reader:
                if not cells:
                    continue  # a blank line
                if skip:
                    skip -= 1
                    self.skipped += 1
                    continue
                time, values = self._row(reader, cells, header, time_position, targets)
                times.append(time)
                rows.append(values)
                if len(times) == self._options.batch_rows:
                    self._write(session, targets, times, rows)
                    times, rows = [], []
                    place.note(self.skipped + self.rows)
                    progress(reader.position(), self.rows)
            self._write(session, targets, times, rows)
            progress(reader.position(), self.rows)
        place.done()
        kinds = {item.name: item.kind for item in targets}
        return Imported(self.rows, self.points, kinds, self._repeated())

    def _repeated(self) -> int:
        distinct = np.unique(np.concatenate(self._times)) if self._times else ()
        return self.rows - len(distinct)

    # ---- the header ----

    def _header(self) -> list[str]:
        with self._reader() as reader:
            header = next(reader, None)
        if not header or not any(header):
            raise ImportProblem("line 1: there is no header with the names of the columns")
        return [name.strip() for name in header]

    def _time_position(self, header: list[str]) -> int:
        wanted = self._options.time_column
        if wanted is not None:
            if wanted not in header:
                raise ImportProblem(f"no column {wanted!r}; there are {', '.join(header)}")
            return header.index(wanted)
        lower = [name.lower() for name in header]
        return next((lower.index(name) for name in _TIME_NAMES if name in lower), 0)

    def _targets(self, header: list[str], time_position: int) -> list[_Target]:
        options = self._options
        others = [number for number in range(len(header)) if number != time_position]
        names = [header[number] for number in others]
        if not others:
            raise ImportProblem(
                f"line 1 is one column only: is {options.delimiter!r} between the columns? If not, "
                "say so with --delimiter"
            )
        if options.measurements is not None:
            names = [name.strip() for name in options.measurements]
            if len(names) != len(others):
                raise ImportProblem(
                    f"{len(names)} measurements for {len(others)} columns: "
                    f"{', '.join(header[number] for number in others)}"
                )
        elif "" in names:
            raise ImportProblem("line 1: a column has no name; give --measurements")
        else:
            names = _last_nodes(names)
        chosen = [(number, name) for number, name in zip(others, names, strict=True) if name]
        if len({name for _, name in chosen}) != len(chosen) or not chosen:
            raise ImportProblem(f"measurements must be there and differ: {', '.join(names)}")
        kinds = self._types([number for number, _ in chosen])
        return [
            _Target(number, name, kind, cell_parser(kind))
            for (number, name), kind in zip(chosen, kinds, strict=True)
            if kind is not None
        ]

    def _fitted(self, session: Session, targets: list[_Target]) -> list[_Target]:
        """Give columns the types of series that exist: a tablet may be written without a column.

        Raises:
            ImportProblem: the user says another type.
        """
        device = self._options.device
        try:
            known = SeriesSchema(session).known(device, [target.name for target in targets])
        except Error:
            return targets  # what the server says of writing there is more to the point
        fitted = []
        for target in targets:
            kind = known.get(target.name, target.kind)
            if kind is not target.kind and self._options.types is not None:
                raise ImportProblem(
                    f"{device}.{target.name} is there already, as {kind.name}, not as "
                    f"{target.kind.name}"
                )
            fitted.append(target._replace(kind=kind, parse=cell_parser(kind)))
        return fitted

    def _types(self, positions: list[int]) -> list[DataType | None]:
        given = self._options.types
        if given is not None:
            if len(given) != len(positions):
                raise ImportProblem(f"{len(given)} types for {len(positions)} measurements")
            try:
                return [parse_type(name) for name in given]
            except ValueError as error:
                raise ImportProblem(str(error)) from error
        guesses = [ColumnGuess() for _ in positions]
        empty_texts: set[int] = set()
        with self._reader() as reader:
            next(reader)
            for rows in _blocks(reader, _GUESS_ROWS, empty_texts):
                for number, guess in zip(positions, guesses, strict=True):
                    guess.add([row[number].strip() for row in rows if number < len(row)])
        for number, guess in zip(positions, guesses, strict=True):
            if number in empty_texts:
                guess.add_empty_text()
        return [guess.kind for guess in guesses]

    # ---- rows ----

    def _row(
        self,
        reader: _Records,
        cells: list[str],
        header: list[str],
        time_position: int,
        targets: list[_Target],
    ) -> tuple[int, list[Any]]:
        if len(cells) != len(header):
            raise ImportProblem(f"line {reader.line}: {len(cells)} cells, {len(header)} columns")
        position = time_position
        try:
            time = self._parse_time(cells[position].strip())
            values: list[Any] = []
            for target in targets:
                position = target.position
                cell = cells[position]
                if target.kind is not DataType.TEXT:
                    cell = cell.strip()
                elif not cell and position in reader.empty_texts():
                    values.append("")
                    continue
                values.append(target.parse(cell) if cell else None)
        except ValueError as error:
            raise ImportProblem(
                f"line {reader.line}, column {header[position]}: {error}"
            ) from error
        return time, values

    def _write(
        self, session: Session, targets: list[_Target], times: list[int], rows: list[list[Any]]
    ) -> None:
        if not times:
            return
        # servers of 0.13 want the times of a tablet in order; stable, so that the last of equal
        # times stays the last
        moments = np.array(times, np.int64)
        order = np.argsort(moments, kind="stable").tolist()
        columns = [[rows[row][number] for row in order] for number in range(len(targets))]
        used = [
            number for number, column in enumerate(columns) if any(c is not None for c in column)
        ]
        try:
            if used:  # a batch without any value has nothing to write
                session.insert_tablet(
                    self._options.device,
                    [targets[number].name for number in used],
                    [targets[number].kind for number in used],
                    [times[row] for row in order],
                    [columns[number] for number in used],
                    aligned=self._options.aligned,
                )
        except DataError as error:
            raise ImportProblem(f"rows from {self.rows + 1} on: {error}") from error
        except Error as error:
            doubt = "" if error.definite else "; the last batch may have been written all the same"
            raise ImportProblem(f"rows from {self.rows + 1} on: {error}{doubt}") from error
        self._times.append(moments)
        self.rows += len(times)
        self.points += sum(cell is not None for column in columns for cell in column)

    @contextmanager
    def _reader(self) -> Iterator[_Records]:
        records: _Records | None = None
        try:
            source = self._path.open("rb")
        except OSError as error:
            raise ImportProblem(error.strerror or str(error)) from error
        try:
            with source as raw:
                text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
                records = _Records(text, raw.tell, self._options.delimiter)
                yield records
        except csv.Error as error:
            first = 1 if records is None else records.first_line
            raise ImportProblem(f"line {first}: {error} in the row that begins here") from error
        except UnicodeDecodeError as error:
            raise ImportProblem(f"it is not UTF-8: {error}") from error


class _Records:
    """The records of a file, each as its cells.

    Attributes:
        first_line: the number of the line at which the record begins, from 1.

    Args:
        lines: of the file.
        position: returns how many bytes have been read.
        delimiter: between cells.
    """

    def __init__(self, lines: Iterable[str], position: Callable[[], int], delimiter: str) -> None:
        self.position = position
        self._delimiter = delimiter
        self._lines = iter(lines)
        self._record: list[str] = []
        self.first_line = 1
        self._reader = csv.reader(self._read(), delimiter=delimiter, strict=True)

    def _read(self) -> Iterator[str]:
        try:
            for line in self._lines:
                self._record.append(line)
                yield line
        except OSError as error:
            raise ImportProblem(error.strerror or str(error)) from error

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        self._record.clear()
        self.first_line = self._reader.line_num + 1
        return next(self._reader)

    @property
    def line(self) -> int:
        """The number of the line at which the record ends, from 1."""
        return self._reader.line_num

    def empty_texts(self) -> set[int]:
        """Return which cells of the record are quoted, with nothing between the quotes."""
        record = "".join(self._record)
        if EMPTY_TEXT not in record:
            return set()
        return quoted_empties(record.rstrip("\r\n"), self._delimiter)


def _last_nodes(names: list[str]) -> list[str]:
    """Return names of measurements; a full path, as results have them, stands for its last node."""
    of: dict[str, str] = {}
    for name in names:
        path = split_series(name)
        node = name if path is None else path[1]
        if node in of:
            raise ImportProblem(f"{of[node]} and {name} must differ: both are {node}; see --help")
        of[node] = name
    return list(of)


def _blocks(reader: _Records, size: int, empty_texts: set[int]) -> Iterator[list[list[str]]]:
    """Yield records, many at a time, and add the columns in which there are empty texts."""
    block: list[list[str]] = []
    for row in reader:
        block.append(row)
        if "" in row:
            empty_texts |= reader.empty_texts()
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block
