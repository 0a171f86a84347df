"""A text whose shape is known must parse as it would without that."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import ClusterError
from cluster.sql import parser as parser_module
from cluster.sql.context import ParseContext
from cluster.sql.parser import parse, parse_with_grammar
from cluster.sql.shapes import ShapeCache
from cluster.sql.statements.select import And, Comparison, TimeCompare
from cluster.sql.templates import SelectTemplates
from cluster.sql.tokens import PLAIN_TOKEN, TOKEN

CONTEXT = ParseContext(zone="+08:00", now=1_700_000_000_000)

TEXTS = [
    "select max_value(s0) from root.cpu.host_0 group by ([0, 0), 0m)",
    "select a0, ab0*, *0b, a0 * 0 from root.x0.** where s0 > 0.0 and time >= 0 limit 0 offset 0",
    "create timeseries root.a.s0 INT0 encoding=RLE",
    "select s0 from root.a where time = 0-0-0 or time < now() - 0d0h",
    "select top_k(s0, 'k'='0') from root.a.`b0` where t in ('a0', \"0\")",
    "select last s0 from root.a where time > 0e0",
    "select s0 as t0 from root.a fill(int0[previous, 0ms])",
    "select s0 from root.a where time >= 0 and s0 = 0 and time < 0 and time != -0",
    "select s0 from root.a where time = 0 or time = 0",
    "select count(s0) from root.a where time > 0 group by ([0, 00), 0ms, 0ms) limit 0",
    "show devices root.a0 limit 0",
]


@pytest.fixture
def cache(monkeypatch):
    fresh = ShapeCache()
    monkeypatch.setattr(parser_module._GRAMMAR, "shapes", fresh)
    return fresh


def outcome(sql, monkeypatch=None):
    try:
        return parse_with_grammar(sql, CONTEXT)
    except ClusterError as error:
        return error.status, error.message


NUMBER = st.sampled_from(["0", "1", "2", "32", "64", "2022", "01", "12", "9" * 25])


@given(st.sampled_from(TEXTS), st.lists(st.tuples(NUMBER, NUMBER, NUMBER), min_size=2, max_size=4))
@settings(max_examples=400, deadline=None)
def test_same_as_without(text, fillings):
    texts = []
    for numbers in fillings:
        parts = text.split("0")
        filled = parts[0]
        for n, part in enumerate(parts[1:]):
            filled += numbers[n % 3] + part
        texts.append(filled)
    fresh = []
    for sql in texts:
        parser_module._GRAMMAR.shapes = ShapeCache()
        fresh.append(outcome(sql))
    parser_module._GRAMMAR.shapes = ShapeCache()
    assert [outcome(sql) for sql in texts] == fresh


SIGNS = "0.-:/'`\"\\*+,;=<>() \tsmeETZz_#"
WORDS = ["ms", "mo", "from", "and", "now()", "0e", "e0", "T0:0:0", "'0"]
PIECES = st.sampled_from([*SIGNS, *WORDS])


@given(st.lists(PIECES, max_size=12).map("".join), st.lists(NUMBER, min_size=1, max_size=5))
@settings(max_examples=500, deadline=None)
def test_tokens_do_not_depend_on_digits(text, numbers):
    runs = itertools.cycle(numbers)
    other = re.sub("0+", lambda _: next(runs), text)
    text = re.sub("0+", "0", text)
    for pattern in (TOKEN, PLAIN_TOKEN):
        assert kinds_of(pattern, text) == kinds_of(pattern, other)


def kinds_of(pattern, text):
    """Kinds of the tokens, and where they begin and end among what is no digit."""
    found = []
    at = 0
    while (match := pattern.match(text, at)) is not None and match.lastgroup != "END":
        assert not re.fullmatch("[0-9]{2}", text[match.end() - 1 : match.end() + 1])
        start, end = (re.sub("[0-9]+", "0", text[:n]) for n in match.span(match.lastgroup))
        found.append((match.lastgroup, start, end))
        at = match.end()
    return found


def test_known_shapes_do_not_reach_the_parser(cache, monkeypatch):
    first = parse("select s1 from root.d1 where time > 5", CONTEXT)
    grammar = parser_module._GRAMMAR.get()

    class NoParser:
        def parse_interactive(self, _):
            raise AssertionError("parsed")

    monkeypatch.setattr(parser_module._GRAMMAR, "_grammar", grammar._replace(parser=NoParser()))
    second = parse("select s22 from root.d7 where time > 123", CONTEXT)
    assert second.items[0].expression.path == "s22"
    assert second.prefixes == ("root.d7",)
    assert second.where.value == 123
    assert first.where.value == 5
    with pytest.raises(AssertionError, match="parsed"):
        parse("select s22 from root.d7 where time >= 123", CONTEXT)


def test_long_texts_are_not_kept(cache):
    chain = " + ".join(["a"] * 190)
    parse(f"select {chain} from root.d", CONTEXT)
    parse(f"select {'a, ' * 2000} a from root.d", CONTEXT)
    assert cache._shapes == {}


def test_statements_are_built_once_for_all_times(cache, monkeypatch):
    monkeypatch.setattr(parser_module._GRAMMAR, "templates", SelectTemplates())
    text = "select count(s1) from root.a where time >= {1} and s > {0} group by ([{2}, {3}), 5m)"
    first = parse(text.format(1, 5, 10, 20), CONTEXT)
    parse(text.format(1, 5, 10, 20), CONTEXT)  # the first one made the shape known

    def not_built(*_):
        raise AssertionError("built")

    monkeypatch.setattr("cluster.sql.templates.build_statement", not_built)
    second = parse(text.format(1, 6, 30, 50), CONTEXT)
    assert second == replace(
        first,
        where=And((TimeCompare(Comparison.GE, 6), first.where.operands[1])),
        windows=replace(first.windows, start=30, end=50),
    )
    assert first.windows.start == 10
    for other in ((2, 6, 30, 50), (1, 6, 50, 30), (1, "9" * 20, 30, 50)):
        with pytest.raises(AssertionError, match="built"):
            parse(text.format(*other), CONTEXT)


def test_statements_are_built_once_for_all_names(cache, monkeypatch):
    monkeypatch.setattr(parser_module._GRAMMAR, "templates", SelectTemplates(by_names=True))
    text = (
        "select max_value(s{0}), a.s{0} + b{1} as x1 from root.d{1}.e, root.d{2}.s{1}.* "
        "where time >= {3} and root.d{1}.s{0} > 7 and s{2} like 'a1%' limit 4"
    )
    first = parse(text.format(1, 2, 3, 5), CONTEXT)
    parse(text.format(1, 2, 3, 5), CONTEXT)  # the first one made the shape known

    def not_built(*_):
        raise AssertionError("built")

    monkeypatch.setattr("cluster.sql.templates.build_statement", not_built)
    second = parse(text.format(11, 22, 11, 6), CONTEXT)
    monkeypatch.undo()
    monkeypatch.setattr(parser_module._GRAMMAR, "shapes", ShapeCache())
    assert second == parse(text.format(11, 22, 11, 6), CONTEXT)
    assert second.prefixes == ("root.d22.e", "root.d11.s22.*")
    assert first == parse(text.format(1, 2, 3, 5), CONTEXT)


@pytest.mark.parametrize(
    "texts",
    [
        ("select s1 as a1 from root.d1", "select s2 as a2 from root.d2"),
        ("select top_k(s1, 'k'='1') from root.a", "select top_k(s2, 'k'='2') from root.a"),
        ("select m4(s1) from root.a", "select m5(s2) from root.a"),
        ("select s1 from root.a.1", "select s2 from root.a.2"),
        ("select s1 from root.`d1`", "select s1 from root.`d2`"),
        ("select s1 from root.a where s1 = 1", "select s1 from root.a where s2 = 2"),
        ("select s1* from root.a", "select s2* from root.a"),
        ("select last s1 from root.a1", "select last s2 from root.a2"),
        ("select s1, s1 from root.a", "select s1, s2 from root.a"),
    ],
)
def test_other_names_mean_what_they_would_alone(monkeypatch, texts):
    monkeypatch.setattr(parser_module._GRAMMAR, "shapes", ShapeCache())
    monkeypatch.setattr(parser_module._GRAMMAR, "templates", SelectTemplates(by_names=True))
    for sql in (texts[0], *texts, *texts):
        found = parse(sql, CONTEXT)
        with monkeypatch.context() as patch:
            patch.setattr(parser_module._GRAMMAR, "shapes", ShapeCache())
            assert found == parse(sql, CONTEXT)


@pytest.mark.parametrize("time", ["now()", "now() - 1d", "2022-01-01"])
def test_what_depends_on_the_clock_is_built_anew(cache, time):
    for now in (1_700_000_000_000, 1_800_000_000_000, 1_900_000_000_000):
        later = replace(CONTEXT, now=now)
        found = parse(f"select s1 from root.d1 where time < {time}", later)
        if "now" in time:
            assert found.where.value in (now, now - 86_400_000)


def test_templates_are_bounded(cache, monkeypatch):
    monkeypatch.setattr("cluster.sql.templates._MAX_TEXT_BYTES", 1000)
    templates = SelectTemplates()
    monkeypatch.setattr(parser_module._GRAMMAR, "templates", templates)
    for number in range(200):
        parse(f"select s{number} as a{number} from root.d where time > 7", CONTEXT)
        assert len(templates._built) <= 1000 // len("select s as a from root.d where time > ") + 1
