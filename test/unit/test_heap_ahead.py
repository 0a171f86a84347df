"""Memory that is touched before it is needed."""

from __future__ import annotations

import errno
import logging
import mmap

import pytest

from cluster import heap_ahead as module
from cluster.async_touches import MOST_BYTES
from cluster.heap_ahead import HeapAhead, heap_ahead

PAGE = mmap.PAGESIZE


class Kernel:
    """Begins stretches; they end when the test says."""

    def __init__(self):
        self.begun = []
        self.result = None
        self.is_under_way = False
        self.is_short = False
        self.refusal = None
        self.closed = 0

    def begin(self, address, size):
        assert not self.is_under_way
        assert not self.closed
        if self.refusal:
            raise self.refusal
        if self.is_short:
            return False
        self.begun.append((address, size))
        self.is_under_way = True
        self.result = None
        return True

    def ended(self):
        assert not self.closed
        if self.result is not None:
            self.is_under_way = False
        return self.result

    def close(self):
        self.closed += 1


class Heap:
    """A heap that ends where the test says."""

    def __init__(self):
        self.end = 100 * MOST_BYTES + 100
        self.now = 50.0
        self.kernel = Kernel()
        self.ahead = HeapAhead(lambda: self.end, self.kernel, lambda: self.now)

    def grow(self, size, passed_s=0.1):
        self.end += size
        self.now += passed_s
        self.ahead.look()

    def finish(self, result=0):
        """The piece at hand has ended."""
        assert self.kernel.is_under_way
        self.kernel.result = result
        self.ahead.look()

    def finish_all(self):
        while self.kernel.is_under_way:
            self.finish()
        return self.kernel.begun


@pytest.fixture
def heap():
    return Heap()


def first_page(end):
    return end - 100 + PAGE


def is_seamless(touched):
    ends = [address + size for address, size in touched]
    return [address for address, _ in touched[1:]] == ends[:-1]


def test_what_grows_quickly_is_touched_stretch_by_stretch(heap):
    heap.grow(5 * MOST_BYTES)
    assert heap.kernel.begun == [], "it may have been the only step"
    first = heap.end
    heap.grow(5 * MOST_BYTES)
    for _ in range(3):
        heap.ahead.look()
    assert heap.kernel.begun == [(first_page(first), MOST_BYTES)], (
        "its page at the old end was touched"
    )
    heap.finish()
    assert len(heap.kernel.begun) == 2
    touched = heap.finish_all()
    assert [size for _, size in touched] == [MOST_BYTES] * 4 + [MOST_BYTES + 100 - PAGE]
    assert is_seamless(touched)
    assert sum(touched[-1]) == heap.end
    heap.ahead.look()
    assert len(touched) == 5


def test_what_grows_slowly_is_not_touched(heap):
    for _ in range(5):
        heap.grow(5 * MOST_BYTES, passed_s=2.0)
    assert heap.kernel.begun == []


def test_the_next_step_goes_before_what_is_left_of_one(heap):
    heap.grow(5 * MOST_BYTES)
    heap.grow(5 * MOST_BYTES)
    before = heap.end
    heap.grow(5 * MOST_BYTES)
    assert len(heap.kernel.begun) == 1, "one at a time"
    heap.finish()
    assert heap.kernel.begun[-1] == (first_page(before), MOST_BYTES)
    assert sum(heap.finish_all()[-1]) == heap.end


def test_a_heap_that_shrinks_is_left_alone(heap):
    heap.grow(5 * MOST_BYTES)
    heap.grow(5 * MOST_BYTES)
    heap.grow(-4 * MOST_BYTES)
    heap.grow(-MOST_BYTES)
    heap.finish()
    heap.ahead.look()
    assert len(heap.kernel.begun) == 1
    heap.grow(MOST_BYTES)
    assert len(heap.kernel.begun) == 2


@pytest.mark.parametrize(
    "number", [errno.ENOMEM, errno.EFAULT, errno.EAGAIN, errno.EINTR, errno.ECANCELED]
)
def test_a_stretch_that_fails_ends_its_step_only(heap, number, caplog):
    caplog.set_level(logging.INFO)
    heap.grow(5 * MOST_BYTES)
    heap.grow(5 * MOST_BYTES)
    heap.finish(-number)
    heap.ahead.look()
    assert len(heap.kernel.begun) == 1
    before = heap.end
    heap.grow(5 * MOST_BYTES)
    assert heap.kernel.begun[1] == (first_page(before), MOST_BYTES)
    before = heap.end
    heap.grow(5 * MOST_BYTES)
    heap.finish(-number)
    assert heap.kernel.begun[2] == (first_page(before), MOST_BYTES), (
        "the piece was of the step before"
    )
    assert sum(heap.finish_all()[-1]) == heap.end
    assert not heap.kernel.closed
    assert caplog.messages == []


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM, errno.EIO])
def test_where_the_system_can_not_it_is_not_asked_again(heap, number, caplog):
    caplog.set_level(logging.INFO)
    heap.grow(5 * MOST_BYTES)
    heap.grow(5 * MOST_BYTES)
    heap.finish(-number)
    for _ in range(3):
        heap.grow(5 * MOST_BYTES)
    assert len(heap.kernel.begun) == 1
    assert len(caplog.messages) == 1
    heap.ahead.close()
    assert heap.kernel.closed == 1


def test_where_nothing_can_be_begun_it_is_not_asked_again(heap, caplog):
    caplog.set_level(logging.INFO)
    heap.kernel.refusal = PermissionError(errno.EPERM, "io_uring_enter")
    heap.grow(5 * MOST_BYTES)
    heap.grow(5 * MOST_BYTES)
    heap.kernel.refusal = None
    heap.grow(5 * MOST_BYTES)
    assert heap.kernel.begun == []
    assert len(caplog.messages) == 1
    assert heap.kernel.closed == 1


def test_a_kernel_that_is_short_of_something_is_asked_in_the_next_round(heap):
    heap.grow(5 * MOST_BYTES)
    heap.kernel.is_short = True
    before = heap.end
    heap.grow(5 * MOST_BYTES)
    heap.ahead.look()
    heap.kernel.is_short = False
    heap.ahead.look()
    assert heap.kernel.begun == [(first_page(before), MOST_BYTES)]
    assert sum(heap.finish_all()[-1]) == heap.end


def test_closed_it_touches_nothing(heap):
    heap.grow(5 * MOST_BYTES)
    heap.grow(5 * MOST_BYTES)
    heap.ahead.close()
    heap.ahead.close()
    heap.grow(5 * MOST_BYTES)
    assert len(heap.kernel.begun) == 1
    assert heap.kernel.closed == 1


def test_the_real_heap():
    ahead = heap_ahead()
    if ahead is None:
        pytest.skip("this system has no ring, or its C library no heap")
    assert ahead._get_end() > 0
    ahead.look()
    ahead.close()


def test_without_a_ring_nothing_is_touched_and_one_line_says_so(monkeypatch, caplog):
    def refuse():
        raise PermissionError(errno.EPERM, "io_uring_setup: Operation not permitted")

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "AsyncTouches", refuse)
    assert heap_ahead() is None
    (message,) = caplog.messages
    assert "io_uring_setup" in message
