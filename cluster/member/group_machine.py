"""What the state machines of all kinds of groups have in common.

A machine's whole state is in its engine region: key-value records and points, and the table of
requests, which is stored with each flush. So it can be compared with its replicas, and be
replaced by the state of another one, without knowing what kind it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cluster.member.digest import DigestBook, label_text
from cluster.member.request_table import KEY_PREFIX as REQUESTS_PREFIX
from cluster.member.request_table import RequestTable
from cluster.plan.codec import decode_requested
from cluster.plan.plans import DigestPlan
from cluster.plan.request_id import Requested
from cluster.raft.types import Entry, EntryKind, LogIndex
from iotdb_engine import Region
from iotdb_engine.picture import RegionPicture


class GroupMachine:
    """Applies the entries of one group to its region: each request once.

    Subclasses load their part in `_load`, and apply their plans in `_apply`.
    """

    def __init__(self, region: Region) -> None:
        self.digests = DigestBook()
        # what entries that were appended here and are not applied yet decode to, by their bytes
        self._expected: dict[int, tuple[bytes, Requested]] = {}
        self._durable_listeners: list[Callable[[int], None]] = []
        self._adopt(region)

    # ---- for subclasses ----

    def _load(self, region: Region) -> None:
        """Take the state that is stored in `region`."""
        raise NotImplementedError

    def _apply(self, plan: Any, index: LogIndex) -> Any:  # noqa: ANN401
        """Apply a plan of this kind of group and return its outcome; no waiting."""
        raise NotImplementedError

    def are_quick(self, entries: Sequence[Entry]) -> bool:
        """Whether applying `entries` now takes microseconds each and waits for nothing."""
        raise NotImplementedError

    def check(self, plan: object) -> None:
        """Raise ValueError unless `plan` is one that this machine can apply."""
        raise NotImplementedError

    def _after(self, plan: Any) -> None:  # noqa: ANN401
        """Do what may wait, once a plan is applied."""

    # ---- for the member ----

    @property
    def region(self) -> Region:
        """The engine region with this group's state; another one after `adopt`."""
        return self._region

    @property
    def applied_index(self) -> LogIndex:
        """Everything up to here has been applied."""
        return self._applied

    @property
    def durable_index(self) -> int:
        """The state up to here is on disk without the log."""
        return self._region.durable_index

    def on_durable(self, listener: Callable[[int], None]) -> None:
        """Call `listener` from the flush thread with each new durable index."""
        self._durable_listeners.append(listener)
        self._region.on_durable(listener)

    def adopt(self, region: Region) -> None:
        """Go on with another region, which has the place of the present one in the engine.

        Nothing may be applied meanwhile. Readers get the new state from the moment of return.
        """
        self._adopt(region)
        for listener in self._durable_listeners:
            region.on_durable(listener)

    def expect(self, index: int, payload: bytes, known: Requested) -> None:
        """The entry at `index` is about to be applied here, and this is what it will decode to.

        Another entry may come to stand there: only one with this very payload is meant.
        """
        self._expected[index] = (payload, known)

    def expect_nothing(self) -> None:
        """What was appended here may be replaced."""
        self._expected.clear()

    def _decoded(self, entry: Entry) -> Requested:
        """Return what an entry says; once, as what was expected is forgotten."""
        expected = self._expected.pop(entry.index, None)
        if expected is not None and expected[0] is entry.data:
            return expected[1]
        return decode_requested(entry.data)

    def apply_all(self, entries: Sequence[Entry]) -> list[Any]:
        """Apply entries, and return the outcome of each; None for one without effect."""
        return [self._apply_or_skip(entry) for entry in entries]

    def _apply_or_skip(self, entry: Entry) -> Any:  # noqa: ANN401
        if entry.kind == EntryKind.PLAN:
            return self.apply(entry)
        self.skip(entry.index)
        return None

    def apply(self, entry: Entry) -> Any:  # noqa: ANN401
        """Apply a plan entry and return its outcome; one applied before is not applied again."""
        request, plan = self._decoded(entry)
        if request is None:
            outcome = self._apply_any(plan, entry.index)
        else:
            known = self._requests.find(request)
            if known is not None:
                self.skip(entry.index)
                return known.outcome
            # one step for flushes: what is stored of the table fits what is stored of the rest
            with self._region.entry():
                outcome = self._apply_any(plan, entry.index)
                self._requests.note(request, outcome, entry.index)
        self._applied = entry.index
        if type(plan) is DigestPlan:
            self.digests.mark(RegionPicture(self._region, plan.now_ns), self._requests.digest())
        else:
            self._after(plan)
        return outcome

    def skip(self, index: LogIndex) -> None:
        """Note an entry without effect."""
        self._region.mark_applied(index)
        self._applied = index

    def leaf_text(self, label: bytes) -> str:
        """Return a part of a digest for people."""
        return label_text(label)

    # ---- inside ----

    def _apply_any(self, plan: Any, index: LogIndex) -> Any:  # noqa: ANN401
        if type(plan) is DigestPlan:
            self._region.mark_applied(index)
            return int(index)
        return self._apply(plan, index)

    def _adopt(self, region: Region) -> None:
        self._load(region)
        self._requests = RequestTable(region.scan(REQUESTS_PREFIX))
        region.on_freeze(self._requests.late_puts)
        self._region = region
        self._applied = LogIndex(region.applied_index)
