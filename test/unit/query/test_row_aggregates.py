"""Aggregates and groups of rows that 1.x has, against plain loops over the rows."""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter

import numpy as np
import pytest

from cluster.query.row_aggregates import ROW_AGGREGATES, keep_of
from cluster.rpc.status import Generation
from harness.local_database import LocalDatabase
from iotdb_engine.types import Column, DataType

SEEDS = range(6)


class Data:
    """Rows (time, v, b) of one device with gaps, ties and nulls; v and b may be None."""

    def __init__(self, seed):
        rng = random.Random(seed)
        self.rows = []
        time = 0
        for _ in range(rng.randrange(1, 60)):
            time += rng.choice((1, 1, 1, 2, 9))
            value = None if rng.random() < 0.2 else rng.randrange(-3, 4)
            flag = None if rng.random() < 0.2 else rng.random() < 0.7
            if value is not None or flag is not None:
                self.rows.append((time, value, flag))
        self.end = time + 1

    def fill(self, database):
        database.execute("CREATE TIMESERIES root.sg.d.v WITH DATATYPE=INT32")
        database.execute("CREATE TIMESERIES root.sg.d.b WITH DATATYPE=BOOLEAN")
        for time, value, flag in self.rows:
            cells = [str(cell).lower().replace("none", "null") for cell in (value, flag)]
            database.execute(
                f"INSERT INTO root.sg.d(time, v, b) VALUES ({time}, {', '.join(cells)})"
            )


@pytest.fixture(params=SEEDS)
def data(request):
    return Data(request.param)


@pytest.fixture(params=[1, 3, 8192])
def database(request, data):
    with LocalDatabase(request.param, generation=Generation.V1) as made:
        data.fill(made)
        yield made


def mode(values):
    if not values:
        return None
    counts = Counter(values)
    return max(values, key=lambda v: (counts[v], -values.index(v)))


def runs(flags):
    found = []
    for flag in flags:
        if flag and found and found[-1]:
            found[-1] += 1
        else:
            found.append(1 if flag else 0)
    return [length for length in found if length]


def aggregates(rows):
    """stddev, var_pop, mode, max_by(b, v), count_if(b, 2), …(ignoreNull=false), count_time."""
    values = [v for _, v, _ in rows if v is not None]
    best = max((v for v in values), default=None)
    shown = next((b for _, v, b in rows if v is not None and v == best), None)
    return [
        statistics.stdev(values) if len(values) > 1 else None,
        statistics.pvariance(values) if values else None,
        mode(values),
        shown,
        sum(length >= 2 for length in runs([b for _, _, b in rows if b is not None])),
        sum(length >= 2 for length in runs([b for _, _, b in rows])),
        len(rows),
        len(values),
        sum(values) if values else None,
    ]


SQL = (
    "stddev(v), var_pop(v), mode(v), max_by(b, v), count_if(b, 2), "
    "count_if(b, keep >= 2, 'ignoreNull'='false'), count_time(*), count(v), sum(v)"
)


def same(found, expected):
    assert len(found) == len(expected)
    for cell, wanted in zip(found, expected, strict=True):
        if isinstance(wanted, float):
            assert math.isclose(cell, wanted, rel_tol=1e-9, abs_tol=1e-12), (found, expected)
        else:
            assert cell == wanted, (found, expected)


def check_groups(database, clause, groups):
    _, rows = database.execute(f"SELECT __endTime, {SQL} FROM root.sg.d GROUP BY {clause}")
    assert [row[:2] for row in rows] == [[g[0][0], g[-1][0]] for g in groups]
    for row, group in zip(rows, groups, strict=True):
        same(row[2:], aggregates(group))


def divided(rows, begins):
    """Runs of rows; `begins(before, row, first_of_group)` says where a new one starts."""
    groups = []
    for row in rows:
        if not groups or begins(groups[-1][-1], row, groups[-1][0]):
            groups.append([])
        groups[-1].append(row)
    return groups


def test_all_rows(database, data):
    ((row),) = database.execute(f"SELECT {SQL} FROM root.sg.d")[1]
    same(row, aggregates(data.rows))


@pytest.mark.parametrize(("interval", "step"), [(7, 7), (10, 3), (4, 9)])
def test_windows_of_time_that_may_overlap(database, data, interval, step):
    _, rows = database.execute(
        f"SELECT {SQL} FROM root.sg.d GROUP BY ([0, {data.end}), {interval}ms, {step}ms)"
    )
    starts = range(0, data.end, step)
    assert [row[0] for row in rows] == list(starts)
    for row, start in zip(rows, starts, strict=True):
        inside = [one for one in data.rows if start <= one[0] < start + interval]
        same(row[1:], aggregates(inside))


@pytest.mark.parametrize("delta", [0, 1, 2.5])
def test_variation(database, data, delta):
    def begins(_, row, first):
        if row[1] is None or first[1] is None:
            return (row[1] is None) != (first[1] is None)
        return abs(row[1] - first[1]) > delta

    present = [row for row in data.rows if row[1] is not None]
    check_groups(database, f"VARIATION(v, {delta})", divided(present, begins))
    check_groups(database, f"VARIATION(v, {delta}, ignoreNull=false)", divided(data.rows, begins))


@pytest.mark.parametrize("keep", [1, 3])
def test_condition(database, data, keep):
    def groups(rows):
        found = divided(rows, lambda before, row, _: bool(before[2]) != bool(row[2]))
        return [group for group in found if group[0][2] and len(group) >= keep]

    present = [row for row in data.rows if row[2] is not None]
    check_groups(database, f"CONDITION(b, {keep})", groups(present))
    check_groups(database, f"CONDITION(b, keep >= {keep}, ignoreNull=false)", groups(data.rows))


def test_session(database, data):
    groups = divided(data.rows, lambda before, row, _: row[0] - before[0] > 5)
    check_groups(database, "SESSION(5ms)", groups)


@pytest.mark.parametrize("size", [1, 4])
def test_count(database, data, size):
    def groups(rows):
        found = [rows[n : n + size] for n in range(0, len(rows), size)]
        return [group for group in found if len(group) == size]

    check_groups(
        database, f"COUNT(v, {size})", groups([row for row in data.rows if row[1] is not None])
    )
    check_groups(database, f"COUNT(v, {size}, ignoreNull=false)", groups(data.rows))


def test_conditions_of_any_kind_before_aggregates(database, data):
    ((row),) = database.execute(f"SELECT {SQL} FROM root.sg.d WHERE v + 1 > 0 AND b IS NOT NULL")[1]
    kept = [one for one in data.rows if one[1] is not None and one[1] >= 0 and one[2] is not None]
    same(row, aggregates(kept))


@pytest.mark.parametrize(
    ("text", "lengths"), [("3", [3, 4]), ("keep < 3", [1, 2]), ("keep=2", [2])]
)
def test_thresholds(text, lengths):

    assert np.flatnonzero(keep_of(text).passing(np.arange(1, 5))).tolist() == [
        n - 1 for n in lengths
    ]


def test_mode_of_more_rows_than_are_counted_at_once():
    rng = np.random.default_rng(1)
    function = ROW_AGGREGATES["mode"]([DataType.INT64], {})
    accumulator = function.start(2)
    batches = [rng.integers(0, 20_000, 8192) for _ in range(24)]
    for number, values in enumerate(batches):
        times = np.arange(number * 8192, (number + 1) * 8192)
        windows = np.full(8192, number // 12)
        accumulator.add(windows, times, [Column(DataType.INT64, values)])
    found = accumulator.result().values.tolist()
    assert found == [
        mode_of_many(np.concatenate(part).tolist()) for part in (batches[:12], batches[12:])
    ]


def mode_of_many(values):
    counts = Counter(values)
    most = max(counts.values())
    return next(value for value in values if counts[value] == most)
