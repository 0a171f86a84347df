from __future__ import annotations

import time

import numpy as np
import pytest

from cluster.scan.regexps import Regexp
from cluster.scan.value_tests import RegexpTest, compiled
from iotdb_engine.types import BATCH_DTYPES, DataType


@pytest.mark.parametrize(
    ("pattern", "text", "found", "whole"),
    [
        ("^6.*6$", "6asdf6", True, True),
        ("b", "abc", True, False),
        ("", "", True, True),
        ("a.c", "a\nc", False, False),
        ("é.", "xé中", True, False),
        (".", "中", True, True),
        (r"\d+", "x12", True, False),
        (r"\d", "٣", False, False),
        ("(?i)ABC", "abc", True, True),
        ("[^\\s]+37229", "https://x/v1?id=37229", True, True),
    ],
)
def test_finds(pattern, text, found, whole):
    regexp = Regexp(pattern)
    assert regexp.found_in(text.encode()) is found
    assert regexp.matches(text.encode()) is whole


@pytest.mark.parametrize(
    "pattern",
    ["[", "(", "a(?=b)", r"(a)\1", "a++", "*", "\\", "a{2,1}", "((((a{99}){99}){99}){99})"],
)
def test_refuses(pattern):
    with pytest.raises(ValueError, match="is not a regular expression: "):
        Regexp(pattern)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "(a*)*b", "(.*)*(.*)*(.*)*c"])
def test_takes_linear_time(pattern):
    """Each of these takes a backtracking engine longer than anybody lives."""
    regexp = Regexp(pattern)
    started = time.process_time()
    regexp.found_in(b"a" * 20_000 + b"!")
    assert time.process_time() - started < 5


def test_bytes_that_are_no_text_and_invalid_cells():
    values = np.array([b"\xff\xfea", 0, b"b"], dtype=BATCH_DTYPES[DataType.TEXT])
    assert compiled(RegexpTest("a"))(values).tolist() == [True, False, False]
