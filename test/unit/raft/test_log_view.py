"""LogView against a plain list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.raft.log_view import LogView


class Model:
    """The same, with a list of (term, size) and loops."""

    def __init__(self, base_index, base_term):
        self.base_index = base_index
        self.rows = [(base_term, 0)]

    @property
    def last_index(self):
        return self.base_index + len(self.rows) - 1

    def term_of(self, index):
        at = index - self.base_index
        return self.rows[at][0] if 0 <= at < len(self.rows) else None

    def bytes_between(self, after, up_to):
        return sum(
            size
            for i, (_, size) in enumerate(self.rows, self.base_index)
            if after < i <= up_to and i > self.base_index
        )

    def batch_end(self, lo, max_bytes):
        hi = lo + 1
        while hi <= self.last_index and self.bytes_between(lo - 1, hi) <= max_bytes:
            hi += 1
        return hi

    def last_at_or_below_term(self, index, term):
        for i in range(min(index, self.last_index), self.base_index - 1, -1):
            if self.term_of(i) <= term:
                return i, self.term_of(i)
        return self.base_index, self.rows[0][0]


_operations = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "append", "newer", "truncate", "compact"]),
        st.integers(0, 30),
    ),
    max_size=40,
)


@given(_operations, st.integers(0, 5))
def test_like_a_list(operations, base_index):
    log, model = LogView(base_index, 2), Model(base_index, 2)
    for name, number in operations:
        if name in ("append", "newer"):
            term = model.rows[-1][0] + (name == "newer") * (1 + number % 3)
            log.append(term, number)
            model.rows.append((term, number))
        elif model.last_index > model.base_index:
            at = model.base_index + 1 + number % (model.last_index - model.base_index)
            if name == "truncate":
                log.truncate_from(at)
                del model.rows[at - model.base_index :]
            else:
                log.compact(at)
                model.rows = [(model.term_of(at), 0), *model.rows[at - model.base_index + 1 :]]
                model.base_index = at
        assert (log.base_index, log.last_index, log.last_term) == (
            model.base_index,
            model.last_index,
            model.rows[-1][0],
        )
    indices = range(max(0, model.base_index - 1), model.last_index + 2)
    for index in indices:
        assert log.term_of(index) == model.term_of(index)
        for term in range(12):
            if index <= model.last_index:
                found = log.last_at_or_below_term(index, term)
                assert found == model.last_at_or_below_term(index, term)
        if model.base_index < index <= model.last_index:
            for limit in (0, 1, 10, 60, 1000):
                assert log.batch_end(index, limit) == model.batch_end(index, limit)
        for up_to in range(index, model.last_index + 1):
            assert log.bytes_between(index, up_to) == model.bytes_between(index, up_to)


def test_what_is_committed_or_missing_cannot_be_truncated():
    log = LogView(3, 1)
    log.append(1, 5)
    log.append(1, 5)
    for index in (3, 6):
        with pytest.raises(AssertionError):
            log.truncate_from(index)


@pytest.mark.parametrize(
    ("last_index", "last_term", "expected"),
    [(5, 2, True), (9, 2, True), (4, 2, False), (9, 1, False), (1, 3, True)],
)
def test_the_later_term_wins_then_the_longer_log(last_index, last_term, expected):
    log = LogView(0, 0)
    for term in (1, 1, 2, 2, 2):
        log.append(term, 1)
    assert log.is_up_to_date(last_index, last_term) is expected
