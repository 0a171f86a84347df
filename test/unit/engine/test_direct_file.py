"""Files written past the page cache hold what was put, and every failure is told."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import random
import struct
import threading
from pathlib import Path

import pytest

from iotdb_engine import direct_file
from iotdb_engine.direct_file import UNIT_BYTES, DirectFile, Ring, Rings
from iotdb_engine.errors import Closed


@pytest.fixture(params=["as it is", "no asynchronous writes", "no direct writes", "neither"])
def rings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Rings:
    if request.param in ("no asynchronous writes", "neither"):
        monkeypatch.setattr(platform, "machine", lambda: "abacus")
    if request.param in ("no direct writes", "neither"):
        system_open = os.open

        def open_indirectly(path: str, flags: int, mode: int = 0o777) -> int:
            if flags & os.O_DIRECT:
                os.close(system_open(path, flags & ~os.O_DIRECT, mode))
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return system_open(path, flags, mode)

        monkeypatch.setattr(os, "open", open_indirectly)
    made = Rings()
    yield made
    made.close()


def ring_of(rings: Rings) -> Ring:
    [ring] = rings._free
    return ring


@pytest.mark.parametrize(
    "sizes",
    [
        [0],
        [1],
        [4096],
        [UNIT_BYTES],
        [UNIT_BYTES - 1, 1, 1],
        [3 * UNIT_BYTES + 17],
        [1, 20 * UNIT_BYTES, 5],
        [163_000, 40, 9] * 60,
    ],
)
def test_a_file_holds_what_was_put(rings: Rings, tmp_path: Path, sizes: list[int]) -> None:
    rng = random.Random(3)
    for name in ("first", "second"):  # from the same buffers
        parts = [rng.randbytes(size) for size in sizes]
        file = DirectFile(tmp_path / name, rings)
        for part in parts:
            file.put(part)
        file.finish(sync=name == "first")
        assert (tmp_path / name).read_bytes() == b"".join(parts)
        with pytest.raises(Closed):
            file.put(b"more")
        with pytest.raises(Closed):
            file.finish(sync=True)
        file.drop()
    assert ring_of(rings).units


def test_a_file_that_is_there_is_not_written_over(rings: Rings, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        DirectFile(tmp_path / "x", rings)
    assert (tmp_path / "x").read_bytes() == b"mine"


def test_a_file_is_dropped_by_another_thread(rings: Rings, tmp_path: Path) -> None:
    files = len(os.listdir("/proc/self/fd"))
    file = DirectFile(tmp_path / "x", rings)
    begun = threading.Event()
    ends: list[Exception] = []

    def write() -> None:
        try:
            while True:
                file.put(bytes(100_000))
                begun.set()
        except Closed as error:
            ends.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    assert begun.wait(30)
    file.drop()
    thread.join(30)
    assert len(ends) == 1
    file.drop()
    assert not ring_of(rings)._under_way
    rings.close()
    assert len(os.listdir("/proc/self/fd")) == files


def test_several_files_at_a_time_and_the_memory_of_one_stays(rings: Rings, tmp_path: Path) -> None:
    rng = random.Random(9)
    contents = [rng.randbytes(3_000_000) for _ in range(3)]
    for _ in range(2):
        files = [DirectFile(tmp_path / f"{number}", rings) for number in range(3)]
        for at in range(0, 3_000_000, 100_000):
            for file, content in zip(files, contents, strict=True):
                file.put(content[at : at + 100_000])
        for file in files:
            file.finish(sync=False)
        for number, content in enumerate(contents):
            path = tmp_path / f"{number}"
            assert path.read_bytes() == content
            path.unlink()
        assert [bool(ring.units) for ring in rings._free] == [False, False, True]
    late = DirectFile(tmp_path / "late", rings)
    rings.close()
    late.drop()
    assert not rings._free or not rings._free[0].units


def fill(file: DirectFile, units: int) -> None:
    for _ in range(units):
        file.put(bytes(UNIT_BYTES))
    file.finish(sync=True)


@pytest.mark.parametrize("result", [-errno.EIO, -errno.ENOSPC, 4096])
def test_a_write_that_failed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: int
) -> None:
    """At once or later, but before the file counts as finished."""
    try:
        direct_file._KernelWrites().close()
    except OSError as error:
        pytest.skip(f"this system has no asynchronous writes: {error}")
    for failing in range(12):
        rings = Rings()
        ended = direct_file._KernelWrites.ended
        count = 0

        def fail(writes: direct_file._KernelWrites) -> list[tuple[int, int]]:
            nonlocal count
            found = []
            for unit, right in ended(writes):  # noqa: B023
                found.append((unit, result if count == failing else right))  # noqa: B023
                count += 1
            return found

        monkeypatch.setattr(direct_file._KernelWrites, "ended", fail)
        file = DirectFile(tmp_path / f"{failing}", rings)
        number = errno.ENOSPC if result > 0 else -result
        with pytest.raises(OSError, match=os.strerror(number)):
            fill(file, 12)
        file.drop()
        assert not ring_of(rings)._under_way
        monkeypatch.undo()
        rings.close()


def test_where_the_system_refuses_each_write_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        ctypes.set_errno(errno.EAGAIN)  # all that the system has are in use
        return -1

    class Refusing:
        syscall = refuse

        def __init__(self, *_: object, **__: object) -> None:
            self.syscall = lambda *_: refuse()

    monkeypatch.setattr(ctypes, "CDLL", Refusing)
    rings = Rings()
    file = DirectFile(tmp_path / "x", rings)
    file.put(bytes(UNIT_BYTES * 2 + 3))
    file.finish(sync=True)
    assert (tmp_path / "x").read_bytes() == bytes(UNIT_BYTES * 2 + 3)
    rings.close()


@pytest.mark.parametrize("refused", [None, errno.EINVAL, errno.EOPNOTSUPP])
def test_each_write_is_durable_where_the_system_can_do_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int | None
) -> None:
    """So that somebody else's sync need not wait for all that a disk's cache has of this file."""
    try:
        direct_file._KernelWrites().close()
    except OSError as error:
        pytest.skip(f"this system has no asynchronous writes: {error}")
    asked: list[int] = []
    begin = direct_file._KernelWrites.begin

    def watch(writes: direct_file._KernelWrites, unit: int, *what: int) -> None:
        call = writes._call

        def submit(number: ctypes.c_long, *arguments: object) -> int:
            [flags] = struct.unpack_from("<I", writes._blocks[unit], 12)  # aio_rw_flags
            asked.append(flags)
            if flags and refused is not None:
                ctypes.set_errno(refused)
                return -1
            return int(call(number, *arguments))

        with monkeypatch.context() as patch:
            patch.setattr(writes, "_call", submit)
            begin(writes, unit, *what)

    monkeypatch.setattr(direct_file._KernelWrites, "begin", watch)
    rings = Rings()
    file = DirectFile(tmp_path / "x", rings)
    content = random.Random(4).randbytes(UNIT_BYTES * 3 + 5)
    file.put(content)
    file.finish(sync=True)
    assert (tmp_path / "x").read_bytes() == content
    assert asked == ([os.RWF_DSYNC] * 4 if refused is None else [os.RWF_DSYNC, 0, 0, 0, 0])
    rings.close()
