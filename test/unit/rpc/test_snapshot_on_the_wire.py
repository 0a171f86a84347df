"""A piece of a snapshot, as its sender hands it to the socket and as its receiver reads it."""

from __future__ import annotations

import random
import socket
import threading

import pytest

from cluster.raft.types import GroupId, LogIndex, Membership, NodeId, SnapshotMeta, Term
from cluster.rpc.convert_snapshot import (
    DATA_FIELD,
    SnapshotPart,
    pack_records,
    part_from_wire,
    part_to_wire,
    unpack_records,
)
from cluster.rpc.framing import (
    BinaryInput,
    BinaryOutput,
    FrameInput,
    FrameReader,
    output_like,
    send_frame,
    with_binary_field,
)
from cluster.rpc.gen.cluster import DataGroupService, RaftService
from harness.joining import join_all

PART = SnapshotPart(
    group_id=GroupId(7),
    frm=NodeId(1),
    to=NodeId(2),
    term=Term(3),
    source="1/3/9/a",
    meta=SnapshotMeta(LogIndex(9), Term(3), Membership((NodeId(1), NodeId(2)))),
    sequence=5,
    after_key=b"before",
)


def encoded(data: list[bytes]) -> list[bytes]:
    output = output_like(BinaryOutput)
    DataGroupService.Client(None, output).send_installSnapshot(part_to_wire(PART, data))
    return with_binary_field(output.trans.take(), DATA_FIELD, data)


def decoded(payload: bytes) -> SnapshotPart:
    source = BinaryInput(FrameInput(), fallback=False)
    source.load(payload, 1 << 30, 1 << 30)
    assert source.readMessageBegin()[0] == "installSnapshot"
    arguments = RaftService.installSnapshot_args()
    arguments.read(source)
    return part_from_wire(arguments.request)


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 300_000])
def test_records_arrive_as_they_were_sent(size: int) -> None:
    rng = random.Random(size)
    records = [(b"key %d" % n, rng.randbytes(rng.choice([size, 3]))) for n in range(20)]
    data = pack_records(records)
    part = decoded(b"".join(encoded(data)))
    assert part == PART._replace(data=b"".join(data))
    assert unpack_records(part.data) == records


def test_a_changed_byte_of_the_data_is_noticed() -> None:
    payload = bytearray(b"".join(encoded(pack_records([(b"k", b"v" * 100)]))))
    payload[payload.index(b"vvv") + 50] ^= 1
    assert decoded(bytes(payload)).is_damaged


def test_large_values_are_not_copied() -> None:
    value = bytes(100_000)
    assert any(part is value for part in encoded(pack_records([(b"k", value), (b"l", b"")])))


def test_only_a_call_with_one_struct_takes_a_field() -> None:
    with pytest.raises(ValueError, match="not a call with one struct"):
        with_binary_field([b"\x80\x01"], DATA_FIELD, [b""])


def test_a_frame_of_many_parts_arrives_whole_where_the_socket_takes_little_at_a_time() -> None:
    ours, theirs = socket.socketpair()
    rng = random.Random(1)
    parts = [rng.randbytes(rng.choice([0, 1, 300, 40_000])) for _ in range(1500)]
    with ours, theirs:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            ours.setsockopt(socket.SOL_SOCKET, option, 4096)
        thread = threading.Thread(target=send_frame, args=(ours, parts))
        thread.start()
        assert FrameReader(theirs, 1 << 30).read() == b"".join(parts)
        join_all(thread)


class Sparing:
    """A socket that takes part of what it is given."""

    def __init__(self) -> None:
        self.taken = bytearray()

    def sendmsg(self, vectors: list[bytes], _ancillary: tuple[()], _flags: int) -> int:
        data = b"".join(vectors)[:1000]
        self.taken += data
        return len(data)


def test_what_a_socket_does_not_take_at_once_follows() -> None:
    sock = Sparing()
    parts = [bytes([n % 256]) * (n * 7 % 1600) for n in range(700)]
    send_frame(sock, parts)  # type: ignore[arg-type]
    assert sock.taken[4:] == b"".join(parts)
