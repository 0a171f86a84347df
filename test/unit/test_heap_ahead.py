"""Memory that is touched before it is needed."""

from __future__ import annotations

import ctypes
import errno
import mmap
import threading

import pytest

from cluster.heap_ahead import HeapAhead, heap_ahead

WAIT_S = 20.0
MIB = 1 << 20


class Heap:
    """A heap that ends where the test says."""

    def __init__(self):
        self.end = 100 * MIB + 100
        self.now = 50.0
        self.touched = []
        self.touched_here = []
        self.error = 0
        self.worked = 0.0
        self.page_s = 10e-6
        self.ahead = HeapAhead(
            lambda: self.end,
            lambda address, size: self._touch(self.touched, address, size),
            lambda address, size: self._touch(self.touched_here, address, size),
            lambda: self.now,
            lambda: self.worked,
        )
        self.thread = threading.Thread(target=self.ahead.run)
        self.thread.start()

    def _touch(self, touched, address, size):
        if self.error:
            raise OSError(self.error, "madvise")
        touched.append((address, size))
        self.worked += size / 4096 * self.page_s

    def grow(self, size, passed_s=0.1):
        self.end += size
        self.now += passed_s
        self.ahead.look()

    def finish(self):
        """The thread has done all until now."""
        self.ahead._steps.put(None)
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()
        return self.touched


@pytest.fixture
def heap():
    made = Heap()
    yield made
    made.ahead.stop()
    made.thread.join(WAIT_S)
    assert not made.thread.is_alive()


def is_seamless(touched):
    ends = [address + size for address, size in touched]
    return [address for address, _ in touched[1:]] == ends[:-1]


def test_dear_pages_of_what_grows_quickly_are_the_threads(heap):
    heap.grow(5 * MIB)
    first = heap.end
    heap.grow(3 * MIB)
    heap.ahead.look()
    assert not heap.ahead.touch_some()
    touched = heap.touched_here + heap.finish()
    assert len(heap.touched_here) == 1, "the one that told"
    assert touched[0][0] == first - 100 + 4096, "the page at the old end was touched before"
    assert all(size <= MIB for _, size in touched)
    assert is_seamless(touched)
    assert sum(touched[-1]) == heap.end


def test_what_grows_slowly_is_not_touched(heap):
    for _ in range(5):
        heap.grow(5 * MIB, passed_s=2.0)
    assert not heap.ahead.touch_some()
    assert heap.finish() == heap.touched_here == []


def test_cheap_pages_are_touched_when_there_is_time(heap):
    heap.page_s = 1e-6
    heap.grow(5 * MIB)
    first = heap.end
    heap.grow(5 * MIB)
    assert len(heap.touched_here) == 1
    while heap.ahead.touch_some():
        pass
    assert heap.touched_here[0][0] == first - 100 + 4096
    assert all(size <= MIB // 32 for _, size in heap.touched_here)
    assert is_seamless(heap.touched_here)
    assert sum(heap.touched_here[-1]) == heap.end
    assert heap.finish() == []


def test_the_next_step_goes_before_what_is_left_of_one(heap):
    heap.page_s = 1e-6
    heap.grow(5 * MIB)
    heap.grow(5 * MIB)
    heap.ahead.touch_some()
    before = heap.end
    heap.grow(5 * MIB)
    assert heap.touched_here[-1][0] == before - 100 + 4096
    assert heap.ahead.touch_some()
    assert is_seamless(heap.touched_here[-2:])


def test_a_heap_that_shrinks_is_left_alone(heap):
    heap.page_s = 1e-6
    heap.grow(5 * MIB)
    heap.grow(5 * MIB)
    heap.grow(-4 * MIB)
    heap.grow(-MIB)
    assert not heap.ahead.touch_some()
    assert len(heap.touched_here) == 1
    assert heap.finish() == []


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EFAULT])
@pytest.mark.parametrize("page_s", [1e-6, 10e-6])
def test_memory_that_is_gone_does_not_matter(heap, number, page_s):
    heap.page_s = page_s
    heap.error = number
    heap.grow(MIB)
    heap.grow(MIB)
    assert not heap.ahead.touch_some()
    heap.error = 0
    heap.grow(MIB)
    heap.error = number
    heap.ahead.touch_some()
    assert not heap.ahead.touch_some()
    heap.error = 0
    before = heap.end
    heap.grow(MIB)
    while heap.ahead.touch_some():
        pass
    touched = heap.finish() or heap.touched_here
    assert touched[-1][0] > before
    assert sum(touched[-1]) == heap.end


def test_where_the_system_can_not_it_is_not_asked_again(heap):
    heap.error = errno.EINVAL
    heap.grow(MIB)
    heap.grow(MIB)
    heap.thread.join(WAIT_S)
    assert not heap.thread.is_alive()
    heap.error = 0
    heap.grow(MIB)
    assert not heap.ahead.touch_some()
    assert heap.touched_here == []


def test_the_real_calls():
    ahead = heap_ahead()
    if ahead is None:
        pytest.skip("this system's C library has no heap")
    assert ahead._get_end() > 0
    block = mmap.mmap(-1, 1 << 16)
    hold = ctypes.c_char.from_buffer(block)
    address = ctypes.addressof(hold)
    for touch in (ahead._touch, ahead._touch_here):
        try:
            touch(address, 1 << 16)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            pytest.skip("this kernel does not touch memory")
        with pytest.raises(OSError, match="madvise"):
            touch(0, 4096)
    ahead.look()
    del hold
