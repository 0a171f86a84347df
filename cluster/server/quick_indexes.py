"""executeRead for read indexes: what another node asks before it answers a query of its replicas.

The same few questions come again and again, byte for byte (`cluster.coordinator.index_round`), and
while nothing is written the same answers go out. So neither is decoded or encoded again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from cluster.errors import StatusCode
from cluster.member.raft_member import RaftMember
from cluster.plan.codec import encode_result
from cluster.plan.reads import AppliedIndexesRead, decode_read
from cluster.raft.types import GroupId
from cluster.rpc.calls import CallCodec
from cluster.rpc.gen.cluster import RaftService
from cluster.rpc.gen.cluster.ttypes import ExecuteResponse
from cluster.rpc.server import Connection

_METHOD = "executeRead"
_BEGIN = b"\x80\x01\x00\x01" + len(_METHOD).to_bytes(4, "big") + _METHOD.encode()
_SEQUENCE = slice(len(_BEGIN), len(_BEGIN) + 4)
_KIND = AppliedIndexesRead.__name__.encode()
_MOST_BYTES = 1024
_MOST_KNOWN = 256


class QuickIndexes:
    """Answers where this node leads every group for certain; thread-safe.

    Args:
        find_member: this node's member of a group, None where there is none.
    """

    def __init__(self, find_member: Callable[[GroupId], RaftMember | None]) -> None:
        self._find_member = find_member
        self._known: dict[bytes, tuple[GroupId, ...]] = {}

    def answer(self, connection: Connection, payload: bytes) -> bytes | None:
        """Return the whole answer; None: the request has to be decoded, or takes time."""
        groups = self._known.get(payload)
        if groups is None:
            groups = self._read(payload)
            if groups is None:
                return None
        indexes = []
        for group_id in groups:
            member = self._find_member(group_id)
            index = None if member is None else member.readable_index()
            if index is None:
                return None
            indexes.append(index)
        return _answer(payload[_SEQUENCE], tuple(indexes))

    def _read(self, payload: bytes) -> tuple[GroupId, ...] | None:
        if len(payload) > _MOST_BYTES or not payload.startswith(_BEGIN) or _KIND not in payload:
            return None
        try:
            _, _, request = CallCodec(RaftService, (_METHOD,)).read_request(payload)
            read = decode_read(request.plan)
        except Exception:  # noqa: BLE001 - who decodes it finds the same, and says so
            return None
        if not isinstance(read, AppliedIndexesRead) or not request.timeoutMs:
            return None
        if request.relay or request.consistency or self._find_member(request.groupId) is None:
            return None
        if len(self._known) >= _MOST_KNOWN:
            self._known = {}
        groups = self._known[payload] = tuple(map(GroupId, read.groups))
        return groups


@lru_cache(maxsize=256)
def _answer(sequence: bytes, indexes: tuple[int, ...]) -> bytes:
    response = ExecuteResponse(
        status=StatusCode.SUCCESS, definite=True, result=encode_result(list(indexes))
    )
    number = int.from_bytes(sequence, "big", signed=True)
    return b"".join(CallCodec(RaftService, (_METHOD,)).answer(_METHOD, number, response))
