"""What a crash leaves is repaired; what a crash can't have done is refused."""

from __future__ import annotations

import shutil
import threading

import pytest

from cluster.log.errors import LogCorrupt
from cluster.log.record import pack_record, seed_of, unpack_segment_header
from cluster.raft.effects import Persist
from cluster.raft.types import HardState
from harness.raft_log import WAIT_S, FaultyDisk, Waited, all_entries, make_entry, segments


def write_one_batch(log, disk, persists):
    """Submit to group 1 so that all but the first persist share one write; wait for all."""
    done = threading.Semaphore(0)
    disk.gate.clear()
    for persist in persists:
        log.group(1).submit(persist, done.release)
    disk.gate.set()
    for _ in persists:
        assert done.acquire(timeout=WAIT_S)


def test_a_copy_without_close_has_all_that_was_reported(open_log, copy_of):
    log = open_log()
    waited = Waited(log.group(1))
    expected = waited.append(5) + waited.append(5, size=3000)
    waited.put(hard_state=HardState(3, 1))
    copy_of("log", "copy")
    again = open_log("copy")
    assert all_entries(again.group(1)) == expected
    assert again.group(1).hard_state == HardState(3, 1)


@pytest.mark.parametrize("fill", ["cut", "zeros", "garbage"])
def test_every_cut_of_the_last_write_leaves_a_prefix(open_log, copy_of, tmp_path, fill):
    disk = FaultyDisk()
    log = open_log(files=disk)
    waited = Waited(log.group(1))
    old = waited.append(3, size=5)
    start = segments(tmp_path / "log")[0].stat().st_size
    new = tuple(make_entry(i, 2, 9) for i in (3, 4, 5))
    waited.put(hard_state=HardState(2, 7), truncate_from=3, entries=new)
    whole = segments(copy_of("log", "copy"))[0].read_bytes()
    ends = [start + 48, start + 2 * 48] + [start + 2 * 48 + i * (48 + 9) for i in (1, 2, 3)]
    assert ends[-1] == len(whole)
    for cut in range(start, len(whole) + 1):
        path = segments(tmp_path / "copy")[0]
        tail = {
            "cut": b"",
            "zeros": bytes(len(whole) - cut + 100),
            "garbage": b"\xa5" * (len(whole) - cut),
        }[fill]
        data = whole[:cut] + tail
        path.write_bytes(data)
        again = open_log("copy")
        group = again.group(1)
        # zeros may happen to be what was cut off
        records = sum(data[:end] == whole[:end] for end in ends)
        assert group.hard_state == (HardState(2, 7) if records else (0, 0)), cut
        expected = old if records < 2 else old[:2] + list(new[: records - 2])
        assert all_entries(group) == expected, cut
        Waited(group).append(1, term=5)
        again.close()
        again = open_log("copy")
        assert [e.term for e in all_entries(again.group(1))] == [e.term for e in expected] + [5]
        again.close()


def test_every_damaged_byte_before_the_last_write_is_refused(open_log, copy_of, tmp_path):
    log = open_log()
    waited = Waited(log.group(1))
    waited.put(hard_state=HardState(1, 1))
    waited.append(2, size=30)
    waited.put(truncate_from=2, entries=[make_entry(2, 2, 30)])
    durable = segments(tmp_path / "log")[0].stat().st_size
    waited.append(1)
    whole = segments(copy_of("log", "copy"))[0].read_bytes()
    path = segments(tmp_path / "copy")[0]
    for at in range(durable):
        damaged = bytearray(whole)
        damaged[at] ^= 0x40
        path.write_bytes(damaged)
        with pytest.raises(LogCorrupt, match="move this node's whole data folder aside") as caught:
            open_log("copy")
        assert caught.value.path == path
        assert 0 <= caught.value.offset <= at
        assert path.read_bytes() == damaged, "nothing is changed"


def test_after_an_orderly_close_any_damage_is_refused(open_log, tmp_path):
    log = open_log()
    Waited(log.group(1)).append(3)
    log.close()
    path = segments(tmp_path / "log")[0]
    whole = path.read_bytes()
    for at in range(len(whole) - 48):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(LogCorrupt):
            open_log()


def test_a_hole_in_the_last_write_is_a_torn_tail(open_log, copy_of, tmp_path):
    """Pages of one write reach the disk in any order: good records may follow the hole."""
    disk = FaultyDisk()
    log = open_log(files=disk)
    Waited(log.group(1)).append(1)
    start = segments(tmp_path / "log")[0].stat().st_size
    persists = [Persist(None, 0, tuple(make_entry(i, 1, 40) for i in range(2, 30)))]
    write_one_batch(log, disk, persists)
    path = segments(copy_of("log", "copy"))[0]
    data = bytearray(path.read_bytes())
    hole = start + 3 * 88 + 10
    data[hole : hole + 200] = bytes(200)
    path.write_bytes(data)
    group = open_log("copy").group(1)
    assert group.last_index == 4
    assert path.stat().st_size == start + 3 * 88


def test_a_payload_that_looks_like_the_log_is_only_a_payload(open_log, copy_of, tmp_path):
    log = open_log()
    waited = Waited(log.group(1))
    waited.append(5)
    log.close()
    path = segments(tmp_path / "log")[0]
    nested = make_entry(6)._replace(data=path.read_bytes())
    log = open_log("other")
    waited = Waited(log.group(1))
    waited.append(5)
    waited.put(entries=[nested])
    path = segments(copy_of("other", "copy"))[0]
    data = path.read_bytes()
    # tear the record that carries the copied log: nothing inside it may count as proof
    path.write_bytes(data[: -len(nested.data) - 10] + b"?" + data[-len(nested.data) - 9 :])
    assert open_log("copy").group(1).last_index == 5


def fill_segments(log, count=30, group=1):
    return Waited(log.group(group)).append(1) + [
        entry for _ in range(count) for entry in Waited(log.group(group)).append(1, size=1000)
    ]


def test_damage_in_an_older_segment_is_refused(open_log, tmp_path):
    log = open_log(segment_bytes=4096)
    fill_segments(log)
    log.close()
    first, second, *_ = segments(tmp_path / "log")
    whole = second.read_bytes()
    for at in (0, 20, 50, 200, 1500, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        second.write_bytes(damaged)
        with pytest.raises(LogCorrupt) as caught:
            open_log()
        assert caught.value.path == second
    second.write_bytes(whole)
    size = first.stat().st_size
    with first.open("r+b") as file:
        file.truncate(size - 1048)  # at a border between records
    with pytest.raises(LogCorrupt, match="it had") as caught:
        open_log()
    assert caught.value.path == first


def test_missing_and_duplicate_segments_are_refused(open_log, tmp_path):
    log = open_log(segment_bytes=4096)
    expected = fill_segments(log)
    log.close()
    files = segments(tmp_path / "log")
    assert len(files) > 4
    away = tmp_path / "away"
    for index, reason in ((0, "entries 1 to"), (2, "missing")):
        shutil.move(files[index], away)
        with pytest.raises(LogCorrupt, match=reason) as caught:
            open_log()
        assert caught.value.path == files[index]
        shutil.move(away, files[index])
    duplicate = files[0].with_name(f"{len(files) + 1:016x}.log")
    shutil.copy(files[1], duplicate)
    with pytest.raises(LogCorrupt, match="copy of segment 0000000000000002"):
        open_log()
    duplicate.unlink()
    assert all_entries(open_log().group(1)) == expected


def test_an_unfinished_segment_is_removed(open_log, tmp_path):
    log = open_log()
    expected = Waited(log.group(1)).append(3)
    log.close()
    unfinished = tmp_path / "log" / f"{2:016x}.tmp"
    unfinished.write_bytes(b"RaftSeg1 and no more")
    assert all_entries(open_log().group(1)) == expected
    assert not unfinished.exists()


def test_an_unknown_record_type_is_refused(open_log, tmp_path):
    log = open_log()
    log.close()
    path = segments(tmp_path / "log")[0]
    data = path.read_bytes()
    header = unpack_segment_header(data)
    seed = seed_of(header.sequence, header.salt)
    path.write_bytes(data + pack_record(seed, len(data), 99, 1, 1, 1))
    with pytest.raises(LogCorrupt, match="type 99 is unknown"):
        open_log()
    gap = pack_record(seed, len(data), 1, 1, 1, 5, 1)
    path.write_bytes(data + gap)
    with pytest.raises(LogCorrupt, match="entry 5 follows entry 0"):
        open_log()


def test_what_recovery_read_is_made_durable(open_log, copy_of):
    log = open_log()
    Waited(log.group(1)).append(3)
    copy_of("log", "copy")
    disk = FaultyDisk()
    open_log("copy", files=disk)
    assert disk.sync_calls == 1
