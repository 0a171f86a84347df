"""The engine's own log: what survives, what is cut off, what is refused."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from harness.joining import join_all
from iotdb_engine import errors
from iotdb_engine.wal import Record, WriteAheadLog, read_log, segment_paths, write_segment


def opened(folder: Path, sync: Any = "always", **more: Any) -> WriteAheadLog:
    folder.mkdir(exist_ok=True)
    return WriteAheadLog(folder / "wal", sync, **more)


def steps(folder: Path, after: int = 0) -> list[tuple[int, bytes]]:
    log = opened(folder)
    found = [(record.step, record.payload) for record in log.replay(after)]
    log.close()
    return found


def contents(path: Path) -> list[Record]:
    return dict(read_log(path.parent))[path].records


def fill(folder: Path, count: int = 5, *, synced: bool = True, **more: Any) -> Path:
    """Append steps 1 … count; return the last file."""
    log = opened(folder, "always" if synced else "never", **more)
    for index in range(1, count + 1):
        log.wait(log.append(index, [b"step ", b"%d" % index]))
    log.close()
    return segment_paths(folder / "wal")[-1]


def test_what_was_appended_comes_back_in_order(tmp_path: Path) -> None:
    fill(tmp_path)
    assert steps(tmp_path) == [(n, b"step %d" % n) for n in range(1, 6)]
    assert steps(tmp_path, after=3) == [(4, b"step 4"), (5, b"step 5")]


def test_nothing_is_written_before_the_first_append(tmp_path: Path) -> None:
    log = opened(tmp_path)
    assert list(log.replay(0)) == []
    log.close()
    assert not (tmp_path / "wal").exists()


def test_files_follow_each_other_and_go_when_all_is_stored(tmp_path: Path) -> None:
    log = opened(tmp_path, segment_bytes=100)
    for index in range(1, 10):
        log.wait(log.append(index, [b"x" * 40]))
    paths = segment_paths(tmp_path / "wal")
    assert len(paths) >= 4
    log.forget(4)
    left = segment_paths(tmp_path / "wal")
    assert 0 < len(left) < len(paths)
    assert [step for step, _ in steps(tmp_path)][-1] == 9
    log.forget(9)
    assert segment_paths(tmp_path / "wal") == []
    log.wait(log.append(10, [b"more"]))
    log.close()
    assert steps(tmp_path) == [(10, b"more")]


@pytest.mark.parametrize("cut", [1, 20, 30, 34])
def test_a_torn_end_is_cut_off(tmp_path: Path, cut: int) -> None:
    path = fill(tmp_path)
    os.truncate(path, path.stat().st_size - cut)
    assert steps(tmp_path) == [(n, b"step %d" % n) for n in range(1, 5)]
    size = path.stat().st_size
    assert steps(tmp_path) == [(n, b"step %d" % n) for n in range(1, 5)]
    assert path.stat().st_size == size


def test_after_a_cut_appending_goes_on(tmp_path: Path) -> None:
    path = fill(tmp_path)
    os.truncate(path, path.stat().st_size - 3)
    log = opened(tmp_path)
    assert [record.step for record in log.replay(0)] == [1, 2, 3, 4]
    log.wait(log.append(5, [b"again"]))
    log.close()
    assert steps(tmp_path)[-1] == (5, b"again")


def test_a_damaged_middle_is_refused_and_says_what_is_lost(tmp_path: Path) -> None:
    path = fill(tmp_path)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"step 2")] ^= 1
    path.write_bytes(raw)
    with pytest.raises(errors.LogCorruption, match="steps 2 to 2 that were acknowledged") as caught:
        steps(tmp_path)
    assert caught.value.indices == (2, 2)
    assert path.read_bytes() == raw, "a refusal changes nothing"


def test_every_damaged_byte_that_was_durable_is_noticed(tmp_path: Path) -> None:
    """But for the last record's: nothing behind it says that it was acknowledged."""
    path = fill(tmp_path)
    raw = path.read_bytes()
    last = contents(path)[-1].offset
    for at in range(last):
        broken = bytearray(raw)
        broken[at] ^= 0x40
        path.write_bytes(broken)
        with pytest.raises(errors.LogCorruption):
            steps(tmp_path)


def test_a_write_that_was_torn_in_the_middle_is_no_damage(tmp_path: Path) -> None:
    """Several records that no sync covered may reach the disk in any order."""
    path = fill(tmp_path, synced=False)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"step 3")] ^= 1
    path.write_bytes(raw)
    assert steps(tmp_path) == [(1, b"step 1"), (2, b"step 2")]


def test_a_file_that_is_not_the_last_must_be_whole(tmp_path: Path) -> None:
    fill(tmp_path, 9, segment_bytes=100)
    first = segment_paths(tmp_path / "wal")[0]
    os.truncate(first, first.stat().st_size - 1)
    with pytest.raises(errors.LogCorruption):
        steps(tmp_path)


def test_without_syncs_no_file_is_sure_to_be_whole_and_a_prefix_is_left(tmp_path: Path) -> None:
    fill(tmp_path, 9, synced=False, segment_bytes=100)
    first = segment_paths(tmp_path / "wal")[0]
    whole = contents(first)[-1].step
    os.truncate(first, first.stat().st_size - 1)
    for _ in range(2):
        assert [step for step, _ in steps(tmp_path)] == list(range(1, whole))


def test_what_was_waited_for_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what a sync covered survives a power cut; that is enough."""
    sync = os.fdatasync
    durable: dict[int, int] = {}

    def note(fd: int) -> None:
        sync(fd)
        durable[fd] = os.fstat(fd).st_size

    monkeypatch.setattr(os, "fdatasync", note)
    log = opened(tmp_path / "live", segment_bytes=200)
    for index in range(1, 12):
        log.wait(log.append(index, [b"x" * 30]))
        cut = tmp_path / f"cut {index}"
        shutil.copytree(tmp_path / "live", cut)
        os.truncate(segment_paths(cut / "wal")[-1], durable[log._fd])
        assert [step for step, _ in steps(cut)] == list(range(1, index + 1))
    log.close()


def test_mends_are_sound(tmp_path: Path) -> None:
    path = fill(tmp_path)
    records = contents(path)
    write_segment(path, [*records[:1], *records[3:]])
    assert [step for step, _ in steps(tmp_path)] == [1, 4, 5]


def test_threads_share_syncs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk is busy with one, eight more come; one sync is enough for them all."""
    log = opened(tmp_path)
    log.wait(log.append(1, [b"first"]))
    before = log.sync_count
    busy, come = threading.Event(), threading.Event()
    sync = os.fdatasync

    def slow(fd: int) -> None:
        busy.set()
        assert come.wait(30)
        sync(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    position = log.append(2, [b"second"])
    threads = [threading.Thread(target=log.wait, args=(position,))]
    threads[0].start()
    assert busy.wait(30)
    for index in range(3, 11):
        position = log.append(index, [b"more"])
        threads.append(threading.Thread(target=log.wait, args=(position,)))
        threads[-1].start()
    come.set()
    join_all(*threads)
    assert log.sync_count - before == 2
    log.close()
    assert len(steps(tmp_path)) == 10


def test_periodic_syncs_by_itself(tmp_path: Path) -> None:
    log = opened(tmp_path, "periodic", interval_s=0.01)
    position = log.append(1, [b"x"])
    log.wait(position)
    deadline = threading.Event()
    while not log.sync_count:
        assert not deadline.wait(0.01)
    log.close()
    assert steps(tmp_path) == [(1, b"x")]


def test_never_does_not_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int) -> None:
        raise AssertionError("it synced")

    monkeypatch.setattr(os, "fdatasync", refuse)
    monkeypatch.setattr(os, "fsync", refuse)
    fill(tmp_path, synced=False)


def test_after_a_failed_sync_everything_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(tmp_path)
    log.wait(log.append(1, [b"x"]))

    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    position = log.append(2, [b"y"])
    for _ in range(2):
        with pytest.raises(errors.EngineError, match="Input/output"):
            log.wait(position)
    monkeypatch.undo()
    with pytest.raises(errors.EngineError, match="Input/output"):
        log.append(3, [b"z"])
    log.close()


def test_a_full_disk_refuses_the_step_and_keeps_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(tmp_path)
    log.wait(log.append(1, [b"x"]))
    write = os.writev

    def half(fd: int, parts: Any) -> int:
        write(fd, [b"".join(parts)[:10]])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "writev", half)
    with pytest.raises(errors.OutOfSpace, match="No space"):
        log.append(2, [b"y"])
    monkeypatch.undo()
    log.wait(log.append(2, [b"y again"]))
    log.close()
    assert steps(tmp_path) == [(1, b"x"), (2, b"y again")]


def test_a_step_of_many_parts(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.wait(log.append(1, [b"%d," % n for n in range(3000)]))
    log.close()
    ((_, payload),) = steps(tmp_path)
    assert payload == b"".join(b"%d," % n for n in range(3000))


def test_records_say_how_far_the_file_was_synced(tmp_path: Path) -> None:
    path = fill(tmp_path, 3)
    records: list[Record] = contents(path)
    assert [record.synced for record in records] == [record.offset for record in records]


def test_a_file_that_could_not_be_begun_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = WriteAheadLog(tmp_path / "wal", "always")
    write = os.write

    def full(_fd: int, _data: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(errors.OutOfSpace, match="No space"):
            log.append(1, [b"one"])
    assert len(os.listdir("/proc/self/fd")) == before
    monkeypatch.setattr(os, "write", write)
    log.wait(log.append(1, [b"one"]))
    log.close()
    again = WriteAheadLog(tmp_path / "wal", "always")
    assert [(record.step, record.payload) for record in again.replay(0)] == [(1, b"one")]
