"""What of one group stands in the segment files: the writer's, not the submitters', view.

Submitted and written differ by what waits in the queue. Checkpoints and the deletion of segments
must go by what is written; that is what this module tracks, in records' order.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from cluster.raft.types import INITIAL_HARD_STATE, HardState


@dataclass(slots=True)
class Run:
    """Consecutive entries [first, last] of a group in one segment."""

    segment: int
    first: int
    last: int


@dataclass(slots=True)
class WrittenGroup:
    """The group's state as the records written so far give it. Owned by one thread.

    Invariants:
        1. runs are sorted by entries and consecutive; the last one ends at `last`. (While a log
           is read back, the first ones may still be missing.)
        2. base_index <= last.
        3. every run ends above base_index.
    A segment may go when no group has a run in it or before it. Entries that were written again
    are in a newer segment than those that follow them may be.
    """

    hard_state: HardState = INITIAL_HARD_STATE
    base_index: int = 0
    base_term: int = 0
    base_membership: bytes = b""
    last: int = 0
    runs: deque[Run] = field(default_factory=deque)

    def append(self, segment: int, first: int, last: int) -> None:
        """Take note of the entries [first, last], written to `segment`."""
        runs = self.runs
        if runs and runs[-1].segment == segment and runs[-1].last == first - 1:
            runs[-1].last = last
        else:
            runs.append(Run(segment, first, last))
        self.last = last

    def move(self, segment: int, first: int, last: int) -> None:
        """Take note that the entries [first, last] stand in `segment` now."""
        below, above = [], []
        for run in self.runs:
            if run.first < first:
                below.append(Run(run.segment, run.first, min(run.last, first - 1)))
            if run.last > last:
                above.append(Run(run.segment, max(run.first, last + 1), run.last))
        moved = Run(segment, first, last)
        if below and below[-1].segment == segment and below[-1].last == first - 1:
            moved.first = below.pop().first
        self.runs = deque([*below, moved, *above])

    @property
    def oldest_segment(self) -> int | None:
        """The oldest segment with an entry that counts, or None."""
        return min([run.segment for run in self.runs], default=None)

    def truncate(self, index: int) -> None:
        """Forget the entries at `index` and above."""
        runs = self.runs
        while runs and runs[-1].first >= index:
            runs.pop()
        if runs and runs[-1].last >= index:
            runs[-1].last = index - 1
        self.last = min(self.last, index - 1)

    def restart(self, index: int, term: int, membership: bytes) -> None:
        """Forget every entry; the next one is that after `index`."""
        self.runs.clear()
        self.base_index, self.base_term, self.base_membership = index, term, membership
        self.last = index

    def rebase(self, index: int, term: int, membership: bytes) -> None:
        """Forget the entries up to `index`."""
        runs = self.runs
        while runs and runs[0].last <= index:
            runs.popleft()
        if runs and runs[0].first <= index:
            runs[0].first = index + 1
        self.base_index, self.base_term, self.base_membership = index, term, membership
        self.last = max(self.last, index)
