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
        self.error = 0
        self.worked = 0.0
        self.page_s = 10e-6
        self.ahead = HeapAhead(lambda: self.end, self._touch, lambda: self.now, lambda: self.worked)
        self.thread = threading.Thread(target=self.ahead.run)
        self.thread.start()

    def _touch(self, address, size):
        if self.error:
            raise OSError(self.error, "madvise")
        self.touched.append((address, size))
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


def test_what_grows_quickly_is_touched_page_by_page(heap):
    heap.grow(5 * MIB)
    first = heap.end
    heap.grow(3 * MIB)
    heap.ahead.look()
    touched = heap.finish()
    assert touched[0][0] == first - 100 + 4096, "the page at the old end was touched before"
    assert all(size <= MIB for _, size in touched)
    ends = [address + size for address, size in touched]
    assert [address for address, _ in touched[1:]] == ends[:-1]
    assert ends[-1] == heap.end


def test_what_grows_slowly_is_not(heap):
    for _ in range(5):
        heap.grow(5 * MIB, passed_s=2.0)
    assert heap.finish() == []


def test_cheap_pages_are_left_to_who_needs_them(heap):
    heap.page_s = 1e-6
    heap.grow(5 * MIB)
    heap.grow(5 * MIB)
    heap.grow(5 * MIB)
    touched = heap.finish()
    assert [size for _, size in touched] == [MIB, MIB], "of each step one piece is tried"
    assert touched[1][0] - touched[0][0] == 5 * MIB


def test_a_heap_that_shrinks_is_left_alone(heap):
    heap.grow(5 * MIB)
    heap.grow(-4 * MIB)
    heap.grow(-MIB)
    assert heap.finish() == []


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EFAULT])
def test_memory_that_is_gone_does_not_matter(heap, number):
    heap.error = number
    heap.grow(MIB)
    heap.grow(MIB)
    while not heap.ahead._steps.empty():
        pass
    heap.error = 0
    heap.grow(MIB)
    assert heap.finish()[-1][0] + heap.touched[-1][1] == heap.end


def test_where_the_system_can_not_it_is_not_asked_again(heap):
    heap.error = errno.EINVAL
    heap.grow(MIB)
    heap.grow(MIB)
    heap.thread.join(WAIT_S)
    assert not heap.thread.is_alive()


def test_the_real_calls():
    ahead = heap_ahead()
    if ahead is None:
        pytest.skip("this system's C library has no heap")
    assert ahead._get_end() > 0
    block = mmap.mmap(-1, 1 << 16)
    hold = ctypes.c_char.from_buffer(block)
    address = ctypes.addressof(hold)
    try:
        ahead._touch(address, 1 << 16)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        pytest.skip("this kernel does not touch memory")
    with pytest.raises(OSError, match="madvise"):
        ahead._touch(0, 4096)
    ahead.look()
    del hold
