"""Calls of generated services as bytes: for who sends many on one connection before any answer."""

from __future__ import annotations

from typing import Any

from thrift.Thrift import TApplicationException, TMessageType

from cluster.rpc.framing import (
    BinaryInput,
    BinaryOutput,
    BinaryReplies,
    FrameInput,
    binary_head,
    output_like,
)

_MAX_NUMBER = 0x7FFFFFFF
_NUMBER_BYTES = 4


class _Kind:
    """Calls or answers of one method: what they begin with, and the struct that follows."""

    __slots__ = ("head", "make", "spec")

    def __init__(self, kind: int, method: str, struct: Any) -> None:  # noqa: ANN401
        self.head = binary_head(method, kind)
        self.make = struct
        self.spec = [struct, struct.thrift_spec]


class CallCodec:
    """Encodes and decodes calls and answers in the binary protocol; one thread at a time.

    What is as expected goes past the generated code, which finds out each time what is known here:
    half the cost of a message.

    Args:
        service: the generated module.
        methods: their names.
    """

    def __init__(self, service: Any, methods: tuple[str, ...]) -> None:  # noqa: ANN401
        self._calls = {
            name: _Kind(TMessageType.CALL, name, getattr(service, f"{name}_args"))
            for name in methods
        }
        self._answers = {
            name: _Kind(TMessageType.REPLY, name, getattr(service, f"{name}_result"))
            for name in methods
        }
        self._encode = output_like(BinaryOutput).encode
        self._input = BinaryInput(FrameInput(), fallback=False)
        self._replies = BinaryReplies(FrameInput(), fallback=False)

    def request(self, method: str, number: int, argument: Any) -> list[bytes]:  # noqa: ANN401
        """Return the parts of a call with one argument, called `request`."""
        kind = self._calls[method]
        return self._message(kind, number, kind.make(request=argument))

    def answer(self, method: str, number: int, value: Any) -> list[bytes]:  # noqa: ANN401
        """Return the parts of an answer."""
        kind = self._answers[method]
        return self._message(kind, number, kind.make(success=value))

    def _message(self, kind: _Kind, number: int, body: Any) -> list[bytes]:  # noqa: ANN401
        return [
            kind.head,
            number.to_bytes(_NUMBER_BYTES, "big", signed=True),
            self._encode(body, kind.spec),
        ]

    def read_request(self, payload: bytes) -> tuple[str, int, Any]:
        """Return method, number and argument of a call.

        Raises:
            Exception: of some kind: it is none, or not of a method that is known here.
        """
        for method, kind in self._calls.items():
            if payload.startswith(kind.head):
                number, args = self._read(kind, payload)
                return method, number, args.request
        raise ValueError("no call of a method that is known here")

    def read_answer(self, payload: bytes) -> tuple[int, Any]:
        """Return the number of an answer, and its value, or the error that it tells of.

        Raises:
            Exception: of some kind: it is none.
        """
        for kind in self._answers.values():
            if payload.startswith(kind.head):
                number, result = self._read(kind, payload)
                return number, result.success
        replies = self._replies
        replies.load(payload, len(payload), len(payload))
        _, message, number = replies.readMessageBegin()
        if message != TMessageType.EXCEPTION:
            raise ValueError("no answer of a method that is known here")
        error = TApplicationException()
        error.read(replies)
        return number, error

    def _read(self, kind: _Kind, payload: bytes) -> tuple[int, Any]:
        at = len(kind.head)
        end = at + _NUMBER_BYTES
        if len(payload) < end:
            raise ValueError("the message ends within its header")
        struct = kind.make()
        self._input.decode_at(payload, end, struct, kind.spec)
        return int.from_bytes(payload[at:end], "big", signed=True), struct


def following(number: int) -> int:
    """Return the number of the next call on a connection."""
    return number + 1 if number < _MAX_NUMBER else 1
