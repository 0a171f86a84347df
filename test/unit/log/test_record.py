"""Bytes of the log: frozen, and no flipped bit goes unseen."""

from __future__ import annotations

from cluster.log.record import (
    RECORD_HEADER_BYTES,
    RecordType,
    SegmentHeader,
    crc32c,
    pack_record,
    pack_segment_header,
    payload_matches,
    seed_of,
    unpack_record_or_none,
    unpack_segment_header,
)


def test_the_checksum_is_crc_32c() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # check value of the Castagnoli polynomial
    assert crc32c(b"56789", crc32c(b"1234")) == 0xE3069283


def test_segment_header_bytes_are_frozen():
    data = pack_segment_header(SegmentHeader(2, 3, 4, 5))
    body = b"".join(n.to_bytes(8, "little") for n in (2, 3, 4, 5))
    assert data == b"RaftSeg1" + bytes([1, 0, 0, 0]) + crc32c(body).to_bytes(4, "little") + body
    assert unpack_segment_header(data) == SegmentHeader(2, 3, 4, 5)


def test_record_bytes_are_frozen():
    seed = seed_of(7, 9)
    assert seed == crc32c((7).to_bytes(8, "little") + (9).to_bytes(8, "little"))
    data = pack_record(seed, 0x30, RecordType.ENTRY, -4, 5, 6, 1, b"abc")
    body = (
        crc32c(b"abc").to_bytes(4, "little")
        + bytes([3, 0, 0, 0, 1, 1, 0, 0, 0x30, 0, 0, 0])
        + (-4).to_bytes(8, "little", signed=True)
        + (5).to_bytes(8, "little")
        + (6).to_bytes(8, "little")
    )
    assert data == bytes.fromhex("c951a3e7") + crc32c(body, seed).to_bytes(4, "little") + body
    assert len(data) == RECORD_HEADER_BYTES


def test_record_types_are_frozen():
    assert {t.name: t.value for t in RecordType} == {
        "ENTRY": 1,
        "HARD_STATE": 2,
        "TRUNCATE": 3,
        "BASE": 4,
        "LAST": 5,
        "CLOSED": 6,
        "RESTART": 7,
        "MOVED": 8,
    }


def test_every_flipped_bit_of_a_record_is_seen():
    seed = seed_of(1, 2)
    payload = b"some payload"
    good = pack_record(seed, 0, RecordType.ENTRY, 1, 2, 3, 1, payload) + payload
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        header = unpack_record_or_none(bytes(bad), 0, seed)
        assert header is None or not payload_matches(memoryview(bad), 0, header), bit


def test_every_flipped_bit_of_a_segment_header_is_seen():
    good = pack_segment_header(SegmentHeader(1, 2, 3, 4))
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        assert isinstance(unpack_segment_header(bytes(bad)), str), bit


def test_a_record_of_another_segment_is_not_taken():
    data = pack_record(seed_of(1, 2), 0, RecordType.ENTRY, 1, 2, 3)
    assert unpack_record_or_none(data, 0, seed_of(1, 3)) is None
    assert unpack_record_or_none(data, 0, seed_of(2, 2)) is None
    assert unpack_record_or_none(data, 0, seed_of(1, 2)) is not None


def test_a_newer_format_is_named():
    data = bytearray(pack_segment_header(SegmentHeader(1, 2, 3, 4)))
    data[8] = 2
    assert "version 2" in str(unpack_segment_header(bytes(data)))
