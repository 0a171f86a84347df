from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ClusterError, StatusCode
from cluster.schema.paths import (
    PathPattern,
    join_path,
    parse_node,
    split_path,
    validate_device,
    validate_measurement_name,
    validate_storage_group,
)


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("root.sg.d.`select`", "select"),
        ("root.sg.d.'select'", "'select'"),
        ('root.sg.d."a+b"', '"a+b"'),
        ("root.sg.d.`a+b`", "a+b"),
        ("root.sg.d.'a.b'", "'a.b'"),
        ("root.sg.d.`'a.b'`", "'a.b'"),
        ("""root.sg.d."a'.'b" """.strip(), """"a'.'b\""""),
        ('root.sg.d.`\\"a`', '\\"a'),
        ('root.sg.d."a\\".\\"b"', '"a\\".\\"b"'),
        ("root.sg.d.1", "1"),
        ("root.sg.d.温度", "温度"),
        ("root.sg.d.a b", "a b"),
        ("root.sg.d.a\\", "a\\"),
    ],
)
def test_split_follows_the_quoting_table(text: str, last: str) -> None:
    nodes = split_path(text)
    assert nodes == ("root", "sg", "d", last)
    assert split_path(join_path(nodes)) == nodes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sg.d",
        "Root.sg",
        "root.",
        "root..a",
        ".root",
        "root.a.",
        "root.`a.b`",
        'root.`"a`',
        "root.`a'`",
        "root.``",
        "root.`a",
        "root.'a",
        "root.'a'b",
        "root.a'b",
        "root.a\nb",
        "root.'a\tb'",
        "root.sg.root",
        "root.sg.`root`",
        "root.a`b`",
    ],
)
def test_split_refuses(text: str) -> None:
    with pytest.raises(ClusterError, match="is not a legal path") as caught:
        split_path(text)
    assert caught.value.status is StatusCode.PATH_ILLEGAL


def test_split_is_linear_in_hostile_text() -> None:
    hostile = "root." + "\\" * 200_000 + "'"
    began = time.thread_time()
    with pytest.raises(ClusterError):
        split_path(hostile)
    with pytest.raises(ClusterError):
        split_path("root.'" + "\\'" * 100_000)
    PathPattern(("root", "*a" * 2000 + "*b")).matches(("root", "a" * 20_000))
    assert time.thread_time() - began < 2


def test_parse_node() -> None:
    assert parse_node("`s 1`") == "s 1"
    assert parse_node("'s.1'") == "'s.1'"
    for text in ("", "a.b", "`a.b`", "'a", "a\n"):
        with pytest.raises(ClusterError):
            parse_node(text)


@pytest.mark.parametrize(
    "name", ["time", "TimeStamp", "'time'", '"TIME"', "a*", "*", "", "a.b", "a\n", "root"]
)
def test_measurement_names_refused(name: str) -> None:
    with pytest.raises(ClusterError, match=r"root\.sg\.d\."):
        validate_measurement_name(name, f"root.sg.d.{name}")


@pytest.mark.parametrize("name", ["s1", "1", "'a*b'", "timer", "a b", "温度", '\\"x'])
def test_measurement_names_accepted(name: str) -> None:
    validate_measurement_name(name, f"root.sg.d.{name}")


def test_storage_group_rules() -> None:
    assert validate_storage_group("root.sg_1.a-b.温") == ("root", "sg_1", "a-b", "温")
    for text in ('root."ln"', "root.a:b", "root.*", "root.a b", "root"):
        with pytest.raises(ClusterError, match="is not a legal path"):
            validate_storage_group(text)
    with pytest.raises(ClusterError) as caught:
        validate_storage_group('root."ln"')
    assert caught.value.message == (
        "The storage group name can only be characters, numbers and underscores. "
        'root."ln" is not a legal path'
    )


def test_device_rules() -> None:
    assert validate_device("root.sg") == ("root", "sg")
    for text in ("root", "root.sg.*", "root.sg.a*", "x.sg"):
        with pytest.raises(ClusterError):
            validate_device(text)


@pytest.mark.parametrize(
    ("pattern", "path", "exact", "prefix"),
    [
        ("root.ln", "root.ln", True, True),
        ("root.ln", "root.ln.a", False, True),
        ("root.ln", "root.ln1", False, False),
        ("root.ln.*", "root.ln", False, False),
        ("root.ln.*", "root.ln.a", True, True),
        ("root.ln.*", "root.ln.a.b", False, True),
        ("root.**", "root", False, False),
        ("root.**", "root.a", True, True),
        ("root.**", "root.a.b.c", True, True),
        ("root.**.s", "root.s", False, False),
        ("root.**.s", "root.a.s", True, True),
        ("root.**.s", "root.a.b.s", True, True),
        ("root.**.s", "root.a.s.b", False, True),
        ("root.*.s", "root.a.b.s", False, False),
        ("root.a*.s", "root.abc.s", True, True),
        ("root.*c.s", "root.abc.s", True, True),
        ("root.*b*.s", "root.abc.s", True, True),
        ("root.*b*.s", "root.b.s", True, True),
        ("root.a*a.s", "root.a.s", False, False),
        ("root.'a*'.s", "root.'ab'.s", False, False),
        ("root.'a*'.s", "root.'a*'.s", True, True),
    ],
)
def test_matching(pattern: str, path: str, exact: bool, prefix: bool) -> None:
    nodes = split_path(path)
    assert PathPattern.parse(pattern).matches(nodes) is exact
    assert PathPattern.parse(pattern, prefix=True).matches(nodes) is prefix


def naive(pattern: tuple[str, ...], nodes: tuple[str, ...], prefix: bool) -> bool:
    if not pattern:
        return prefix or not nodes
    if not nodes:
        return False
    first, rest = pattern[0], pattern[1:]
    if first == "**":
        return any(naive(rest, nodes[taken:], prefix) for taken in range(1, len(nodes) + 1))
    if first == "*" or first == nodes[0]:
        return naive(rest, nodes[1:], prefix)
    if "*" in first:
        head, tail = first.split("*")
        name = nodes[0]
        if len(name) >= len(head) + len(tail) and name.startswith(head) and name.endswith(tail):
            return naive(rest, nodes[1:], prefix)
    return False


names = st.sampled_from(["a", "b", "ab", "ba"])
paths = st.lists(names, max_size=5).map(lambda nodes: ("root", *nodes))
patterns = st.lists(names | st.sampled_from(["*", "**", "a*", "*b"]), max_size=5).map(
    lambda nodes: ("root", *nodes)
)


@given(patterns, paths, st.booleans())
def test_matching_equals_the_naive_twin(
    pattern: tuple[str, ...], nodes: tuple[str, ...], prefix: bool
) -> None:
    compiled = PathPattern(pattern, prefix)
    assert compiled.matches(nodes) == naive(pattern, nodes, prefix)
    for length in range(len(nodes)):
        state = compiled.state_after(nodes[:length])
        if compiled.matches(nodes):
            assert compiled.could_match_below(nodes[:length])
            assert compiled.may_match_below(state)
        if compiled.accepts_all_below(state):
            assert compiled.matches(nodes)
    if compiled.is_literal:
        assert compiled.matches(nodes) == (nodes == pattern)
    if compiled.matches(nodes):
        assert nodes[: len(compiled.literal_prefix)] == compiled.literal_prefix


def test_pruning() -> None:
    pattern = PathPattern.parse("root.ln.*.wt.status")
    assert pattern.could_match_below(("root",))
    assert pattern.could_match_below(("root", "ln", "x"))
    assert not pattern.could_match_below(("root", "lm"))
    assert not pattern.could_match_below(("root", "ln", "x", "other"))
    assert pattern.literal_prefix == ("root", "ln")
    assert not pattern.may_match_below(pattern.state_after(("root", "ln", "x", "wt", "status")))


def test_equality() -> None:
    assert PathPattern.parse("root.a") == PathPattern(("root", "a"))
    assert PathPattern.parse("root.a") != PathPattern(("root", "a"), prefix=True)
    assert len({PathPattern.parse("root.a"), PathPattern(("root", "a"))}) == 1


_stored = st.one_of(
    st.text(st.characters(blacklist_characters=".'\"`\\\n\r\t", codec="utf-8"), min_size=1),
    st.text(st.characters(blacklist_characters="'\\\n\r\t", codec="utf-8")).map(
        lambda body: f"'{body}'"
    ),
)


@given(st.lists(_stored.filter(lambda node: node != "root"), max_size=4))
def test_round_trip(nodes: list[str]) -> None:
    path = ("root", *nodes)
    assert split_path(join_path(path)) == path
