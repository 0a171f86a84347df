"""Regular expressions of REGEXP and STRING_MATCHES, matched in time linear in the text.

Whoever may query may write any pattern, so an engine that backtracks (Python's `re`, Java's) would
let one statement hold a thread for ever: `(a+)+$` over forty letters is enough. RE2 never
backtracks, and bounds the memory of a pattern. What it gives up: looking around, references back,
possessive quantifiers.
"""

from __future__ import annotations

from typing import Any

import re2

_MEMORY_BYTES = 8 << 20
"""Of one pattern, compiled, and what matching it keeps."""


class Regexp:
    """A compiled pattern over UTF-8 text; thread-safe.

    Args:
        pattern: in RE2's syntax, nearly Java's.

    Raises:
        ValueError: it is none, or one that RE2 does not know or that would take too much memory;
            the message says what is wrong with it.
    """

    def __init__(self, pattern: str) -> None:
        options = re2.Options()
        options.never_capture = True
        options.max_mem = _MEMORY_BYTES
        options.log_errors = False
        try:
            compiled: Any = re2.compile(pattern.encode("utf-8", "surrogatepass"), options)
        except re2.error as error:
            (reason,) = error.args or (b"",)
            text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
            raise ValueError(f"'{pattern}' is not a regular expression: {text}") from error
        self._search, self._fullmatch = compiled.search, compiled.fullmatch

    def found_in(self, text: bytes) -> bool:
        """Return whether the pattern matches somewhere in a text."""
        return self._search(text) is not None

    def matches(self, text: bytes) -> bool:
        """Return whether the pattern matches the whole text."""
        return self._fullmatch(text) is not None
