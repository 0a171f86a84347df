"""Calls of generated services as bytes: for who sends many on one connection before any answer."""

from __future__ import annotations

from typing import Any

from thrift.Thrift import TApplicationException, TMessageType

from cluster.rpc.framing import BinaryInput, BinaryOutput, BinaryReplies, FrameInput, output_like

_MAX_NUMBER = 0x7FFFFFFF


class CallCodec:
    """Encodes and decodes calls and answers in the binary protocol; one thread at a time.

    Args:
        service: the generated module.
        methods: their names.
    """

    def __init__(self, service: Any, methods: tuple[str, ...]) -> None:  # noqa: ANN401
        self._args = {name: getattr(service, f"{name}_args") for name in methods}
        self._results = {name: getattr(service, f"{name}_result") for name in methods}
        self._output = output_like(BinaryOutput)
        self._calls = BinaryInput(FrameInput(), fallback=False)
        self._replies = BinaryReplies(FrameInput(), fallback=False)

    def request(self, method: str, number: int, argument: Any) -> list[bytes | memoryview]:  # noqa: ANN401
        """Return the parts of a call with one argument, called `request`."""
        return self._message(
            method, TMessageType.CALL, number, self._args[method](request=argument)
        )

    def answer(self, method: str, number: int, value: Any) -> list[bytes | memoryview]:  # noqa: ANN401
        """Return the parts of an answer."""
        return self._message(
            method, TMessageType.REPLY, number, self._results[method](success=value)
        )

    def _message(self, method: str, kind: int, number: int, body: Any) -> list[bytes | memoryview]:  # noqa: ANN401
        output = self._output
        try:
            output.writeMessageBegin(method, kind, number)
            body.write(output)
            output.writeMessageEnd()
        finally:
            parts: list[bytes | memoryview] = output.trans.take()
        return parts

    def read_request(self, payload: bytes) -> tuple[str, int, Any]:
        """Return method, number and argument of a call.

        Raises:
            Exception: of some kind: it is none, or not of a method that is known here.
        """
        calls = self._calls
        calls.load(payload, len(payload), len(payload))
        method, _, number = calls.readMessageBegin()
        args = self._args[method]()
        args.read(calls)
        return method, number, args.request

    def read_answer(self, payload: bytes) -> tuple[int, Any]:
        """Return the number of an answer, and its value, or the error that it tells of.

        Raises:
            Exception: of some kind: it is none.
        """
        replies = self._replies
        replies.load(payload, len(payload), len(payload))
        method, kind, number = replies.readMessageBegin()
        if kind == TMessageType.EXCEPTION:
            error = TApplicationException()
            error.read(replies)
            return number, error
        result = self._results[method]()
        result.read(replies)
        return number, result.success


def following(number: int) -> int:
    """Return the number of the next call on a connection."""
    return number + 1 if number < _MAX_NUMBER else 1
