"""Memory that the kernel's workers fill in, by the real ring where the system has it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import struct
import sys
import threading
import time
from pathlib import Path

import pytest

from cluster import async_touches
from cluster.async_touches import MOST_BYTES, AsyncTouches
from cluster.heap_ahead import HeapAhead

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="io_uring is Linux's")

WAIT_S = 20.0
PAGE = mmap.PAGESIZE
PIECE = 16 * PAGE
FDS = Path("/proc/self/fd")


class Memory:
    """New memory of this process."""

    def __init__(self, size):
        self.size = size
        self.block = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):  # a kernel without huge pages
            self.block.madvise(mmap.MADV_NOHUGEPAGE)
        self.hold = ctypes.c_char.from_buffer(self.block)
        self.address = ctypes.addressof(self.hold)

    def pages(self):
        """Which are there."""
        found = ctypes.create_string_buffer(self.size // PAGE)
        call = ctypes.CDLL(None, use_errno=True).mincore
        call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
        assert call(self.address, self.size, found) == 0
        return [bool(byte & 1) for byte in found.raw]

    def close(self):
        del self.hold
        self.block.close()


@pytest.fixture
def memory():
    made = Memory(4 * PIECE)
    yield made
    made.close()


@pytest.fixture
def touches(memory):
    """A ring; tests are skipped with the reason where there is none."""
    try:
        made = AsyncTouches()
    except OSError as error:
        pytest.skip(f"no ring here: {error}")
    assert made.begin(memory.address, PAGE)
    if made.ended(wait=True) == -errno.EINVAL:
        made.close()
        pytest.skip("this kernel has no MADV_POPULATE_WRITE for a ring")
    yield made
    made.close()


def test_a_piece_is_there_and_is_what_it_was(touches, memory):
    memory.block[PIECE : PIECE + 5] = b"as it"
    assert touches.ended() is None, "none was begun"
    assert touches.begin(memory.address + PIECE, 2 * PIECE)
    assert touches.ended(wait=True) == 0
    assert touches.ended() is None
    count = PIECE // PAGE
    assert memory.pages() == [True] + [False] * (count - 1) + [True] * 2 * count + [False] * count
    assert memory.block[PIECE : 3 * PIECE] == b"as it" + bytes(2 * PIECE - 5)


def test_the_end_is_seen_without_a_call(touches, memory):
    calls = []
    touches._waiting = lambda *arguments: calls.append(arguments)
    assert touches.begin(memory.address, memory.size)
    until = time.monotonic() + WAIT_S
    while (result := touches.ended()) is None:
        assert time.monotonic() < until
    assert result == 0
    assert all(memory.pages())
    assert not calls


@pytest.fixture
def large():
    made = Memory(MOST_BYTES)
    yield made
    made.close()


def test_a_long_stretch_is_several_operations(touches, large):
    for size in (MOST_BYTES - PAGE, MOST_BYTES):  # the second ones are there already, but one page
        assert touches.begin(large.address, size)
        assert touches.ended(wait=True) == 0
        assert sum(large.pages()) == size // PAGE
    assert touches._ended_head[0] == 1 + 8, "and the fixture's"


def test_a_piece_that_fails_is_told_and_the_others_are_touched(touches, large):
    quarter = MOST_BYTES // 4
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    assert protect(large.address + 2 * quarter, quarter, 0) == 0
    assert touches.begin(large.address, MOST_BYTES)
    result = touches.ended(wait=True)
    assert protect(large.address, MOST_BYTES, mmap.PROT_READ | mmap.PROT_WRITE) == 0
    assert result == -errno.EINVAL
    count = quarter // PAGE
    assert large.pages() == [True] * 2 * count + [False] * count + [True] * count
    assert touches.begin(large.address, MOST_BYTES)
    assert touches.ended(wait=True) == 0
    assert all(large.pages())


def test_of_a_stretch_that_is_taken_in_part_the_rest_is_left(touches, large):
    quick, sends = touches._quick, touches._sends
    touches._quick = lambda *_: quick(*sends[3])
    assert touches.begin(large.address, MOST_BYTES)
    assert touches.ended(wait=True) == 0
    assert sum(large.pages()) * PAGE == MOST_BYTES * 3 // 4
    touches._quick = quick
    for _ in range(5):  # each entry comes to be used
        assert touches.begin(large.address + MOST_BYTES * 3 // 4, PAGE)
        assert touches.ended(wait=True) == 0
    assert sum(large.pages()) * PAGE == MOST_BYTES * 3 // 4 + PAGE


def test_many_one_after_the_other(touches, memory):
    for at in range(0, memory.size, PAGE):
        assert touches.begin(memory.address + at, PAGE)
        assert touches.ended(wait=True) == 0
    assert all(memory.pages())


def test_what_can_not_be_touched_is_told(touches, memory):
    for address, number in ((0, errno.ENOMEM), (memory.address + 1, errno.EINVAL)):
        assert touches.begin(address, PAGE)
        assert touches.ended(wait=True) == -number
    assert touches.begin(memory.address, PAGE)
    assert touches.ended(wait=True) == 0


def test_who_began_may_be_gone(touches, memory):
    cancelled = (-errno.ECANCELED, -errno.EINTR)
    for _ in range(20):
        other = threading.Thread(target=touches.begin, args=(memory.address, memory.size))
        other.start()
        other.join(WAIT_S)
        assert not other.is_alive()
        assert touches.ended(wait=True) in (0, *cancelled)
    assert touches.begin(memory.address, memory.size)
    assert touches.ended(wait=True) == 0
    assert all(memory.pages())


def test_closed_it_has_nothing_open_and_nothing_under_way(touches, memory):
    touches.close()
    before = sorted(os.listdir(FDS))
    other = AsyncTouches()
    assert not os.get_inheritable(other._fd)
    assert other.begin(memory.address, memory.size)
    other.close()
    assert all(memory.pages())
    other.close()
    assert sorted(os.listdir(FDS)) == before


@pytest.mark.parametrize("number", [errno.EINTR, errno.EAGAIN, errno.EBUSY])
def test_a_kernel_that_is_short_of_something_is_asked_again(touches, memory, number):
    quick, touches._quick = touches._quick, failing(number)
    assert not touches.begin(memory.address, memory.size)
    assert touches.ended() is None
    touches._quick = quick
    assert touches.begin(memory.address + PIECE, PAGE)
    assert touches.ended(wait=True) == 0
    assert sum(memory.pages()) == 2, "the one that was not begun is forgotten"


def test_a_kernel_that_refuses(touches, memory):
    quick, touches._quick = touches._quick, failing(errno.EPERM)
    with pytest.raises(PermissionError, match="io_uring_enter"):
        touches.begin(memory.address, PAGE)
    touches._quick = quick
    assert touches.begin(memory.address, PAGE)
    assert touches.ended(wait=True) == 0


def test_an_entry_that_was_taken_all_the_same_is_under_way(touches, memory):
    quick = touches._quick

    def interrupted(*arguments):
        assert quick(*arguments) == 1
        ctypes.set_errno(errno.EINTR)
        return -1

    touches._quick = interrupted
    assert touches.begin(memory.address, memory.size)
    assert touches.ended(wait=True) == 0
    assert all(memory.pages())


def test_waiting_goes_on_when_it_is_interrupted(touches, memory):
    waiting, left = touches._waiting, [errno.EINTR] * 3

    def interrupted(*arguments):
        return failing(left.pop())() if left else waiting(*arguments)

    touches._waiting = interrupted
    tail = touches._ended_tail
    touches._ended_tail = Late(tail, left)
    assert touches.begin(memory.address, memory.size)
    assert touches.ended(wait=True) == 0
    assert not left
    touches._ended_tail = tail


class Late:
    """A queue's tail that stays what it is while something is left."""

    def __init__(self, tail, left):
        self.tail = tail
        self.before = tail[0]
        self.left = left

    def __getitem__(self, at):
        return self.before if self.left else self.tail[at]


def failing(number):
    def call(*_):
        ctypes.set_errno(number)
        return -1

    return call


class Library:
    """A C library with a `syscall` of its own."""

    def __init__(self, call):
        def syscall(*arguments):
            return call(*arguments)

        self.syscall = syscall


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM, errno.ENOMEM])
def test_no_ring_where_the_system_has_none_or_refuses(monkeypatch, number):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Library(failing(number)))
    with pytest.raises(OSError, match="io_uring_setup") as caught:
        AsyncTouches()
    assert caught.value.errno == number


@pytest.mark.parametrize(("module", "name"), [(platform, "machine"), (ctypes, "CDLL")])
def test_no_ring_on_a_system_that_is_not_known(monkeypatch, module, name):
    def unknown(*_, **__):
        if module is ctypes:
            raise TypeError("no library")
        return "s390x"

    monkeypatch.setattr(module, name, unknown)
    with pytest.raises(OSError, match=r"not known|can't be called") as caught:
        AsyncTouches()
    assert caught.value.errno == errno.ENOSYS


def test_no_ring_of_a_kernel_that_is_too_old(touches, monkeypatch):
    real = touches._waiting

    def old(number, entries, told):
        fd = real(number, entries, told)
        struct.pack_into("<I", told, 20, 0)
        return fd

    before = sorted(os.listdir(FDS))
    with monkeypatch.context() as patched:
        patched.setattr(ctypes, "CDLL", lambda *_, **__: Library(old))
        with pytest.raises(OSError, match="older"):
            AsyncTouches()
    assert sorted(os.listdir(FDS)) == before


@pytest.mark.parametrize("which", [0, 1])
def test_no_ring_that_can_not_be_mapped(touches, monkeypatch, which):
    left = [which]
    real = mmap.mmap

    def full(*arguments, **named):
        if not left[0]:
            raise OSError(errno.ENOMEM, "no room")
        left[0] -= 1
        return real(*arguments, **named)

    before = sorted(os.listdir(FDS))
    with monkeypatch.context() as patched:
        patched.setattr(async_touches.mmap, "mmap", full)
        with pytest.raises(OSError, match=r"mapped: .*no room"):
            AsyncTouches()
    assert sorted(os.listdir(FDS)) == before


def test_a_heap_is_touched_as_it_grows(touches):
    """The rules of `HeapAhead` by the real ring."""
    memory = Memory(8 << 20)
    ends = [memory.address + PAGE]
    ahead = HeapAhead(lambda: ends[-1], touches)
    for end in (memory.size // 4, memory.size):
        ends.append(memory.address + end)
        ahead.look()
    until = time.monotonic() + WAIT_S
    while ahead._begun_until:
        assert time.monotonic() < until
        ahead.look()
    pages = memory.pages()
    quarter = len(pages) // 4
    assert pages == [False] * quarter + [True] * 3 * quarter
    ahead.close()
    memory.close()
