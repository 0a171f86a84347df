"""A linearizability checker: Wing and Gong's search with Lowe's memory of visited states.

No package of the Python index does this (porcupine is Go, knossos Clojure), so here is our own; it
is tested against histories that are known to be good and bad, and against a brute-force twin.

A history of one key is linearizable when its operations can be put into one order that (1) keeps
a before b whenever a was answered before b was called, and (2) a single register could have
produced. Unknown operations have no answer: they may take effect at any time after their call, or
never. Keys are independent, so each is searched for itself, which keeps the search small.

The search walks the calls and answers in time order. At a call it tries to let the operation take
effect now; at an answer whose operation has not taken effect it must go back. A pair (set of
operations done, state) that was seen before leads nowhere new and is cut off.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from harness.history import Operation, Outcome


class Model(Protocol):
    """A sequential object: what it is at first, and what an operation makes of it."""

    initial: Hashable

    def step(self, state: Hashable, operation: Operation) -> tuple[bool, Hashable]:
        """Whether `operation` could have this result in `state`, and the state afterwards."""
        ...


class Register:
    """Holds the value written last; None before the first write."""

    def __init__(self, initial: Hashable = None) -> None:
        self.initial: Hashable = initial

    def step(self, state: Hashable, operation: Operation) -> tuple[bool, Hashable]:
        if operation.action == "write":
            return True, operation.value
        return operation.value == state, state


class Verdict(Enum):
    LINEARIZABLE = "linearizable"
    VIOLATION = "violation"
    UNDECIDED = "undecided"


class Result(NamedTuple):
    """`explanation` names, for a violation, the operation that no order could accommodate."""

    verdict: Verdict
    explanation: str = ""


class _Node:
    """A call or an answer in the doubly linked list of what is still to be placed."""

    __slots__ = ("index", "next", "partner", "previous")

    def __init__(self, index: int) -> None:
        self.index = index
        self.partner: _Node | None = None  # the answer of a call; None for an answer
        self.previous: _Node | None = None
        self.next: _Node | None = None


def relevant(operations: Sequence[Operation]) -> list[Operation]:
    """Drop what can't matter: failed operations, unanswered reads, unknown writes nobody saw.

    An unknown write whose value no ok read returned may be taken to have never happened; when
    values are unique this is what keeps the search from trying each subset of lost calls.
    """
    seen = {o.value for o in operations if o.action == "read" and o.outcome is Outcome.OK}
    return [
        o
        for o in operations
        if o.outcome is Outcome.OK
        or (o.outcome is Outcome.UNKNOWN and o.action == "write" and o.value in seen)
    ]


def check(
    operations: Sequence[Operation], model: Model | None = None, budget_s: float = 30.0
) -> Result:
    """Decide one key's history, or give up when the time is over.

    Args:
        operations: of one key, in any order.
        model: a Register when None.
        budget_s: the search is exponential at worst; UNDECIDED after this time.
    """
    model = model or Register()
    todo = relevant(operations)
    phantom = _never_written(operations, model)
    if phantom is not None:
        return Result(Verdict.VIOLATION, f"read a value that nobody wrote: {phantom}")
    return _search(todo, model, time.monotonic() + budget_s)


def _never_written(operations: Sequence[Operation], model: Model) -> Operation | None:
    if not isinstance(model, Register):
        return None
    written = {
        o.value for o in operations if o.action == "write" and o.outcome is not Outcome.FAIL
    } | {model.initial}
    for operation in operations:
        if (
            operation.action == "read"
            and operation.outcome is Outcome.OK
            and operation.value not in written
        ):
            return operation
    return None


def _linked(todo: Sequence[Operation]) -> _Node:
    """The head of the list of calls and answers in time order; a call goes before an answer."""
    marks: list[tuple[float, int, _Node]] = []
    for index, operation in enumerate(todo):
        call, answer = _Node(index), _Node(index)
        call.partner = answer
        marks.append((operation.called_ns, 0, call))
        ends = operation.answered_ns if operation.outcome is Outcome.OK else float("inf")
        marks.append((ends, 1, answer))
    marks.sort(key=lambda mark: mark[:2])
    head = _Node(-1)
    last = head
    for _, _, node in marks:
        last.next, node.previous = node, last
        last = node
    return head


def _lift(call: _Node) -> None:
    for node in (call, call.partner):
        assert node is not None
        assert node.previous is not None
        node.previous.next = node.next
        if node.next is not None:
            node.next.previous = node.previous


def _unlift(call: _Node) -> None:
    for node in (call.partner, call):
        assert node is not None
        assert node.previous is not None
        node.previous.next = node
        if node.next is not None:
            node.next.previous = node


def _search(todo: Sequence[Operation], model: Model, end: float) -> Result:
    required = sum(1 << i for i, o in enumerate(todo) if o.outcome is Outcome.OK)
    head = _linked(todo)
    state = model.initial
    done = 0
    visited = {(done, state)}
    stack: list[tuple[_Node, Hashable]] = []
    node = head.next
    furthest, blocked = -1, -1
    steps = 0
    while done & required != required:
        steps += 1
        if steps & 0xFFF == 0 and time.monotonic() > end:
            return Result(Verdict.UNDECIDED, f"gave up after {steps} steps")
        assert node is not None
        if node.partner is not None:
            possible, after = model.step(state, todo[node.index])
            key = (done | 1 << node.index, after)
            if possible and key not in visited:
                visited.add(key)
                stack.append((node, state))
                done, state = key
                _lift(node)
                node = head.next
            else:
                node = node.next
            continue
        # an answer whose operation found no place before it: the last choice was wrong
        if len(stack) > furthest:
            furthest, blocked = len(stack), node.index
        if not stack:
            return Result(Verdict.VIOLATION, f"no order explains {todo[blocked]}")
        call, state = stack.pop()
        done &= ~(1 << call.index)
        _unlift(call)
        node = call.next
    return Result(Verdict.LINEARIZABLE)
