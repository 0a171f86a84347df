from __future__ import annotations

import random

import pytest

from iotdb_engine.compaction_plan import FAN_IN, Layer, Span, pick

CHUNK = 65536


def in_order(*rows: int, best: bool = False) -> list[Layer]:
    layers = []
    at = 0
    for count in rows:
        layers.append(Layer(at, at + count - 1, count, best))
        at += count
    return layers


def test_a_few_small_layers_wait() -> None:
    assert pick(in_order(*[40] * (FAN_IN - 1)), CHUNK, full=False) == []


def test_small_layers_in_a_row_are_merged() -> None:
    assert pick(in_order(*[40] * FAN_IN), CHUNK, full=False) == [Span(0, 40 * FAN_IN - 1, False)]


def test_a_large_layer_is_not_rewritten_for_few_small_ones() -> None:
    layers = in_order(4000, *[40] * FAN_IN)
    assert pick(layers, CHUNK, full=False) == [Span(4000, 4000 + 40 * FAN_IN - 1, False)]


def test_sizes_that_alternate_are_merged_too() -> None:
    assert len(pick(in_order(*[400, 40] * FAN_IN), CHUNK, full=False)) == 1


def test_full_chunks_of_a_flush_are_encoded_anew_once() -> None:
    assert pick(in_order(CHUNK), CHUNK, full=False) == [Span(0, CHUNK - 1, True)]
    assert pick(in_order(CHUNK, best=True), CHUNK, full=False) == []
    assert pick(in_order(CHUNK // 2, CHUNK, best=True), CHUNK, full=True) == []


def test_layers_over_each_other_are_merged_when_the_new_rows_pay_for_it() -> None:
    large = Layer(0, 100_000, 60_000, True)
    assert pick([large, Layer(50, 60, 10, False)], CHUNK, full=False) == []
    assert pick([large, Layer(50, 9000, 7500, False)], CHUNK, full=False) == [
        Span(0, 100_000, True)
    ]
    many = [Layer(50 + n, 51 + n, 2, False) for n in range(40)]
    assert pick([large, *many], CHUNK, full=False) == [Span(0, 100_000, True)]


def test_a_full_merge_takes_what_is_not_settled_and_what_deletes_touch() -> None:
    settled = in_order(CHUNK, CHUNK, CHUNK, best=True)
    tail = Layer(3 * CHUNK, 3 * CHUNK + 9, 10, False)
    assert pick([*settled, tail], CHUNK, full=True) == [Span(tail.first, tail.last, True)]
    best_tail = tail._replace(best=True)
    assert pick([*settled, best_tail], CHUNK, full=True) == []
    hit = pick([*settled, best_tail], CHUNK, full=True, deleted=[(CHUNK + 5, CHUNK + 6)])
    assert hit == [Span(CHUNK, 2 * CHUNK - 1, True)]


def write_amplification(sizes: list[int]) -> float:
    """Flush layers of these sizes one after another, merge as planned, count rewritten rows."""
    layers: list[Layer] = []
    rewritten = at = 0
    for size in sizes:
        layers.append(Layer(at, at + size - 1, size, False))
        at += size
        while spans := pick(layers, CHUNK, full=False):
            for span in spans:
                inside = [one for one in layers if span.t_min <= one.first <= span.t_max]
                rows = sum(one.rows for one in inside)
                rewritten += rows
                parts = -(-rows // CHUNK)
                step = -(-rows // parts)
                layers = [one for one in layers if one not in inside]
                for lo in range(0, rows, step):
                    count = min(step, rows - lo)
                    first = span.t_min + lo
                    layers.append(Layer(first, first + count - 1, count, span.best))
                layers.sort()
    return rewritten / at


@pytest.mark.parametrize(("rows", "most"), [(40, 5.0), (1000, 3.1), (7000, 2.1), (160_000, 1.01)])
def test_points_are_rewritten_a_bounded_number_of_times(rows: int, most: float) -> None:
    assert write_amplification([rows] * (20 * CHUNK // rows)) <= most


@pytest.mark.parametrize("seed", range(5))
def test_flushes_of_any_sizes_stay_bounded(seed: int) -> None:
    rng = random.Random(seed)
    sizes = [int(10 ** rng.uniform(0, 5)) for _ in range(800)]
    assert write_amplification(sizes) <= 8
