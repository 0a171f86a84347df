"""TOP_K and BOTTOM_K: the k extreme points, at their own times."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from cluster.query.functions.function import (
    NUMERIC,
    Attributes,
    Bind,
    BoundFunction,
    DelayedFunction,
    FunctionError,
    Points,
    Times,
    Values,
    integer,
    single_argument,
)
from iotdb_engine.types import BATCH_DTYPES, DataType

_MAX_K = 1000


class _Selection:
    """Keeps the k best points so far; of equal values the earlier ones."""

    def __init__(self, data_type: DataType, k: int, *, largest: bool) -> None:
        self._k = k
        self._largest = largest
        self._times = np.empty(0, np.int64)
        self._values = np.empty(0, BATCH_DTYPES[data_type])

    def push(self, times: Times, values: Values) -> Points:
        times = np.concatenate([self._times, times])
        values = np.concatenate([self._values, values])
        if len(times) > self._k:
            rows = np.sort(self._best(values))
            times, values = times[rows], values[rows]
        self._times, self._values = times, values
        return Points(times[:0], values[:0])

    def finish(self) -> Points:
        return Points(self._times, self._values)

    def _best(self, values: Values) -> Values:
        """Return the rows of the k best values, which are in time order."""
        if values.dtype == object:
            pick = heapq.nlargest if self._largest else heapq.nsmallest
            texts = values.tolist()
            # both are stable: of equals the first come first
            return np.array(pick(self._k, range(len(texts)), key=texts.__getitem__))
        order = np.argsort(values, kind="stable")
        if not self._largest:
            return order[: self._k]
        # from the back, equal values would come latest first
        backwards = np.argsort(values[::-1], kind="stable")
        return (len(values) - 1 - backwards)[-self._k :]


def _select(*, largest: bool) -> Bind:
    def bind(types: Sequence[DataType], attributes: Attributes) -> BoundFunction:
        data_type = single_argument(types, (*NUMERIC, DataType.TEXT))
        k = integer(attributes, "k")
        if not 1 <= k <= _MAX_K:
            raise FunctionError(f"k has to be greater than 0 and less than or equal to {_MAX_K}.")
        return DelayedFunction(data_type, lambda: _Selection(data_type, k, largest=largest))

    return bind


SELECTING: dict[str, Bind] = {"top_k": _select(largest=True), "bottom_k": _select(largest=False)}
"""By lower-case name."""
