"""Time to live: how long the points of a range of series are kept.

A point is expired when it is older than now minus its series' time to live. Reads leave expired
points out from that moment on; compaction removes them from the disk some time later.
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping

from iotdb_engine.types import T_MIN

_RULE = struct.Struct("<Bxxxq16s")
_CRC = struct.Struct("<I")
_VERSION = 1


class TtlRules:
    """An immutable set of rules over disjoint half-open ranges of series ids; O(log n) to ask."""

    def __init__(self, rules: Mapping[int, tuple[int, int]] | None = None) -> None:
        """Make the set.

        Args:
            rules: lowest id of a range → (lowest id after it, time to live).
        """
        self._rules = dict(sorted((rules or {}).items()))
        self._starts = list(self._rules)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def with_rule(self, lo: int, hi: int, ttl: int | None) -> TtlRules:
        """Return the set with one more rule, or without one.

        Args:
            lo: lowest series id.
            hi: lowest id after the range.
            ttl: in units of time stamps, at least 1; None: points stay.

        Raises:
            ValueError: the range partly overlaps another rule's.
        """
        if not 0 <= lo < hi:
            raise ValueError(f"[{lo}, {hi}) is no range of series ids")
        if ttl is not None and ttl < 1:
            raise ValueError(f"time to live {ttl}: at least 1 is needed")
        for start, (end, _) in self._rules.items():
            if start < hi and lo < end and (start, end) != (lo, hi):
                raise ValueError(
                    f"series [{lo}, {hi}) overlap [{start}, {end}), which has a time to live"
                )
        rules = {start: rule for start, rule in self._rules.items() if start != lo}
        if ttl is not None:
            rules[lo] = (hi, ttl)
        return TtlRules(rules)

    def floor(self, series_id: int, now: int) -> int:
        """Return the lowest time of a series that is not expired."""
        at = bisect_right(self._starts, series_id) - 1
        if at < 0:
            return T_MIN
        end, ttl = self._rules[self._starts[at]]
        return max(T_MIN, now - ttl) if series_id < end else T_MIN

    def ranges(self, now: int) -> Iterable[tuple[int, int, int]]:
        """Yield (lowest id, lowest id after, lowest time that is not expired) of each rule."""
        for start, (end, ttl) in self._rules.items():
            yield start, end, max(T_MIN, now - ttl)


def encode_rule(hi: int, ttl: int) -> bytes:
    """Return the value of a TTL record; its key holds `lo`. `hi` may be 2**64."""
    body = _RULE.pack(_VERSION, ttl, hi.to_bytes(16, "little"))
    return body + _CRC.pack(zlib.crc32(body))


def decode_rule(data: bytes) -> tuple[int, int]:
    """Read a TTL record: (hi, time to live).

    Raises:
        ValueError: the bytes are damaged or of an unknown version.
    """
    body = data[: -_CRC.size]
    if len(body) != _RULE.size or data[-_CRC.size :] != _CRC.pack(zlib.crc32(body)):
        raise ValueError(f"a damaged time-to-live record of {len(data)} bytes")
    version, ttl, hi = _RULE.unpack(body)
    if version != _VERSION:
        raise ValueError(f"a time-to-live record of version {version}")
    return int.from_bytes(hi, "little"), ttl
