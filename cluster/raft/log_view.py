"""What the core knows of its log: the term and size of every entry, never a payload.

Terms are kept run-length encoded (a log has few terms), sizes as running totals, so that "how many
bytes lie between two indices" and "where does a batch of n bytes end" need no loop.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from cluster.raft.types import LogIndex, Term


class LogView:
    """Terms and sizes of the entries (base_index, last_index].

    Not thread-safe. Every query is O(1) or O(log n).

    1. base_index <= last_index; `base_index` is the position just before the first kept entry.
    2. Terms never decrease along the log (Raft paper, section 5.3).
    3. `_ends[k]` - `_ends[j]` is the payload bytes of the entries (base_index + j, base_index + k].
    4. `_run_starts[0] == base_index`: the base itself is part of the first run.
    """

    __slots__ = ("_ends", "_run_starts", "_run_terms", "base_index", "last_index")

    def __init__(self, base_index: LogIndex, base_term: Term) -> None:
        self.base_index = base_index
        self.last_index = base_index
        self._run_starts: list[LogIndex] = [base_index]
        self._run_terms: list[Term] = [base_term]
        self._ends: list[int] = [0]

    @property
    def last_term(self) -> Term:
        """Term of the last entry, or of the base when no entry is kept."""
        return self._run_terms[-1]

    def term_of(self, index: int) -> Term | None:
        """Return the term at `index`, the base included; None outside [base, last]."""
        if not self.base_index <= index <= self.last_index:
            return None
        starts = self._run_starts
        if index >= starts[-1]:
            return self._run_terms[-1]
        return self._run_terms[bisect_right(starts, index) - 1]

    def append(self, term: Term, size_bytes: int) -> LogIndex:
        """Add one entry behind the last and return its index."""
        index = LogIndex(self.last_index + 1)
        if term != self._run_terms[-1]:
            assert term > self._run_terms[-1], (index, term, self._run_terms[-1])
            self._run_starts.append(index)
            self._run_terms.append(term)
        self._ends.append(self._ends[-1] + size_bytes)
        self.last_index = index
        return index

    def truncate_from(self, index: int) -> None:
        """Forget every entry >= `index`; the base can't go."""
        assert self.base_index < index <= self.last_index, (self.base_index, index)
        del self._ends[index - self.base_index :]
        self.last_index = LogIndex(index - 1)
        while self._run_starts[-1] > self.last_index:
            self._run_starts.pop()
            self._run_terms.pop()

    def compact(self, up_to: int) -> None:
        """Forget every entry <= `up_to`, which becomes the base; O(entries kept)."""
        if up_to <= self.base_index:
            return
        assert up_to <= self.last_index, (up_to, self.last_index)
        runs = bisect_right(self._run_starts, up_to) - 1
        del self._run_starts[:runs]
        del self._run_terms[:runs]
        del self._ends[: up_to - self.base_index]
        self._run_starts[0] = LogIndex(up_to)
        self.base_index = LogIndex(up_to)

    def bytes_between(self, after: int, up_to: int) -> int:
        """Return the payload bytes of the entries (after, up_to]; 0 for an empty range."""
        after = max(after, self.base_index)
        if after >= up_to:
            return 0
        return self._ends[up_to - self.base_index] - self._ends[after - self.base_index]

    def batch_end(self, lo: int, max_bytes: int) -> LogIndex:
        """Return `hi` so that [lo, hi) holds at most `max_bytes`, but at least one entry.

        Args:
            lo: an index in (base_index, last_index].
            max_bytes: payload bytes, at least 1.
        """
        base = self.base_index
        assert base < lo <= self.last_index, (base, lo, self.last_index)
        limit = self._ends[lo - 1 - base] + max_bytes
        hi = base + bisect_right(self._ends, limit, lo - base)
        return LogIndex(max(hi, lo + 1))

    def tail_start(self, up_to: int, max_bytes: int) -> LogIndex:
        """Return the lowest `after` so that the entries (after, up_to] hold at most `max_bytes`.

        Args:
            up_to: in [base_index, last_index].
            max_bytes: payload bytes; 0 or more.
        """
        base = self.base_index
        assert base <= up_to <= self.last_index, (base, up_to, self.last_index)
        return LogIndex(base + bisect_left(self._ends, self._ends[up_to - base] - max_bytes))

    def last_at_or_below_term(self, index: int, term: int) -> tuple[LogIndex, Term]:
        """Return the highest position <= `index` whose term is <= `term`, and that term.

        Lets leader and follower skip a whole term of disagreement in one round trip (Raft paper,
        end of section 5.3; etcd's findConflictByTerm). When no kept entry qualifies, the answer
        is the base with its true term: it is committed, thus common to both.

        Args:
            index: at most last_index; below the base, the base is returned.
            term: highest term that qualifies.
        """
        run = bisect_right(self._run_starts, index) - 1
        while run > 0 and self._run_terms[run] > term:
            index = self._run_starts[run] - 1
            run -= 1
        if run <= 0 and (run < 0 or self._run_terms[0] > term):
            return self.base_index, self._run_terms[0]
        return LogIndex(index), self._run_terms[run]

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Whether a candidate with such a last entry has all that is here (thesis 3.6.1)."""
        own_term = self._run_terms[-1]
        return last_term > own_term or (last_term == own_term and last_index >= self.last_index)
