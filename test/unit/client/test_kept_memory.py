"""Memory of large results that is taken again."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import numpy as np
import pytest

from iotdb_client.frames import _arrays
from iotdb_client.kept_memory import KEPT, KeptMemory

SIZE = 1 << 20


def until(true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(2000):
        if true():
            return
        pause.wait(0.01)
    pytest.fail("it never came true")


def test_memory_comes_back_when_the_last_array_is_gone() -> None:
    kept = KeptMemory()
    memory = kept.take(SIZE)
    where = memory.ctypes.data
    memory[:] = 7
    part = memory[100:200].view(np.int32)
    del memory
    gc.collect()
    assert kept.kept_bytes() == 0
    assert part.view(np.uint8).tolist() == [7] * 100
    del part
    until(lambda: kept.kept_bytes() == SIZE)
    again = kept.take(SIZE - 1000)
    assert again.ctypes.data == where
    assert kept.kept_bytes() == 0
    assert kept.take(SIZE).ctypes.data != where


def test_what_does_not_fit_is_new() -> None:
    kept = KeptMemory()
    memory = kept.take(SIZE)
    del memory
    until(lambda: kept.kept_bytes() == SIZE)
    small, large = kept.take(SIZE // 2), kept.take(SIZE + 1)
    assert (len(small), len(large)) == (SIZE // 2, SIZE + 1)
    assert kept.kept_bytes() == SIZE


def test_it_is_bounded() -> None:
    kept = KeptMemory(most_bytes=3 * SIZE)
    pieces = [kept.take(SIZE) for _ in range(5)]
    too_large = kept.take(3 * SIZE + 1)
    assert len(too_large) == 3 * SIZE + 1
    del pieces, too_large
    until(lambda: kept.kept_bytes() == 3 * SIZE)
    until(kept._returned.empty)
    assert kept.kept_bytes() == 3 * SIZE


def test_it_is_let_go_after_a_while() -> None:
    kept = KeptMemory(keep_s=0.05)
    memory = kept.take(SIZE)
    del memory
    until(kept._returned.empty)
    until(lambda: kept.kept_bytes() == 0)
    memory = kept.take(SIZE)  # and goes on
    del memory
    until(lambda: kept.kept_bytes() == SIZE or kept._returned.empty())
    until(lambda: kept.kept_bytes() == 0)


def test_columns_of_a_large_result_do_not_share_bytes() -> None:
    for _ in range(2):
        found = _arrays(500_000, ("INT64", "DOUBLE", "TEXT", "INT32"))
        for number, array in enumerate(found):
            if array is not None:
                assert len(array) == 500_000
                array[:] = number
        for number, array in enumerate(found):
            assert array is None or (array == number).all()
        del found, array
        until(lambda: KEPT.kept_bytes() > 0)
