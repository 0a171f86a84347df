"""Partial aggregates of many series over the same windows, as a few arrays.

Problem: a thousand series over a dozen windows are a thousand objects with a dozen numbers each;
making, merging and encoding them one by one costs more than reading the pages. Idea: all series of
a type share arrays with a row for each, so that whatever is done to them is done once for a type.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from iotdb_engine.types import Aggregate, DataType
from iotdb_engine.windows import Needs, WindowAggregates

Rows = npt.NDArray[np.intp]


class AggregateTable(Sequence[WindowAggregates]):
    """The aggregates of several series over the same windows; changed in place.

    As a sequence: the aggregates of each series, as views, which may be written into.

    Attributes:
        kinds: type of each series.
        rows: for each series its row in the block of its type.
        blocks: by type the aggregates of its series; their arrays are [series, windows].
        needs: what they hold besides counts.
    """

    def __init__(
        self,
        kinds: Sequence[DataType],
        window_count: int,
        needs: Needs,
        block: WindowAggregates | None = None,
    ) -> None:
        """Take the aggregates of nothing, or of a block.

        Args:
            kinds: type of each series.
            window_count: how many windows there are.
            needs: what is wanted besides counts.
            block: of all series, which are of one type; [series, windows].
        """
        self.kinds = kinds
        self.needs = needs
        self.window_count = window_count
        self.blocks: dict[DataType, WindowAggregates] = {}
        self._numbers: dict[DataType, Rows] = {}
        if kinds and kinds.count(kinds[0]) == len(kinds):  # mostly
            kind = kinds[0]
            if block is None:
                block = WindowAggregates.table(kind, len(kinds), window_count, needs)
            self.blocks[kind] = block
            self.rows = self._numbers[kind] = np.arange(len(kinds))
            return
        self.rows = np.zeros(len(kinds), np.intp)
        of_all = np.fromiter(kinds, np.intp, len(kinds))
        for number in np.unique(of_all).tolist():
            kind = DataType(number)
            of_kind = self._numbers[kind] = np.flatnonzero(of_all == number)
            self.rows[of_kind] = np.arange(len(of_kind))
            self.blocks[kind] = WindowAggregates.table(kind, len(of_kind), window_count, needs)

    @classmethod
    def of(
        cls, parts: Sequence[WindowAggregates], window_count: int, needs: Needs
    ) -> AggregateTable:
        """Return a table of aggregates that were worked out one by one."""
        table = cls([part.data_type for part in parts], window_count, needs)
        for number, part in enumerate(parts):
            table.put(number, part)
        return table

    def __len__(self) -> int:
        return len(self.kinds)

    @overload
    def __getitem__(self, number: int) -> WindowAggregates: ...
    @overload
    def __getitem__(self, number: slice) -> list[WindowAggregates]: ...
    def __getitem__(self, number: int | slice) -> WindowAggregates | list[WindowAggregates]:
        """Return the aggregates of a series, as views."""
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        return self.blocks[self.kinds[number]].row(self.rows[number])

    def __iter__(self) -> Iterator[WindowAggregates]:
        return (self[number] for number in range(len(self)))

    def numbers_of(self, kind: DataType) -> list[int]:
        """Return the numbers of the series of a type, in the order of its block's rows."""
        numbers: list[int] = self._numbers[kind].tolist()
        return numbers

    def put(self, number: int, part: WindowAggregates) -> None:
        """Set the aggregates of one series."""
        self.blocks[self.kinds[number]].put_rows(self.rows[number], part)

    def put_alike(self, numbers: Sequence[int], part: WindowAggregates) -> None:
        """Set the aggregates of series of one type.

        Args:
            numbers: of the series.
            part: arrays with a row for each, or without rows what is the same for all.
        """
        self.blocks[self.kinds[numbers[0]]].put_rows(self.rows[list(numbers)], part)

    def put_wholes(self, numbers: Sequence[int], wholes: Iterable[Aggregate]) -> None:
        """Set the aggregates of series of one type over a single window; each counts something."""
        block = self.blocks[self.kinds[numbers[0]]]
        block.put_column(self.rows[list(numbers)], 0, list(wholes))

    def merge(self, other: AggregateTable, numbers: Sequence[int] | None = None) -> None:
        """Add the aggregates of other points over the same windows.

        Args:
            other: with the same needs.
            numbers: which series of this table its series are; None: the same.
        """
        if numbers is None or (len(numbers) == len(self) and list(numbers) == [*range(len(self))]):
            for kind, block in self.blocks.items():
                block.merge(other.blocks[kind])
            return
        places = self.rows[list(numbers)]
        for kind, part in other.blocks.items():
            rows = places[other._numbers[kind]]
            block = self.blocks[kind]
            mine = block.take_rows(rows)
            mine.merge(part)
            block.put_rows(rows, mine)
