from __future__ import annotations

import re
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import ClusterError, StatusCode
from cluster.sql import parser as parser_module
from cluster.sql import tokens
from cluster.sql.context import ParseContext
from cluster.sql.parser import keywords, parse
from cluster.sql.statements.data import DeleteData, Insert
from cluster.sql.statements.expressions import (
    BinaryExpression,
    ConstantExpression,
    FunctionCall,
    PathExpression,
)
from cluster.sql.statements.families import is_query
from cluster.sql.statements.literals import Literal, LiteralKind
from cluster.sql.statements.schema import CreateAlignedTimeseries, CreateTimeseries
from cluster.sql.statements.select import (
    And,
    Comparison,
    Not,
    Or,
    Select,
    SelectItem,
    TimeCompare,
    TimeIn,
    ValueCompare,
    ValueIn,
)
from cluster.sql.statements.show import (
    CountTimeseries,
    ShowDevices,
    ShowVersion,
)
from cluster.sql.statements.utility import Flush
from iotdb_engine.types import T_MAX, T_MIN, DataType

NOW = 1_700_000_000_000
CONTEXT = ParseContext(zone="+08:00", now=NOW)


def number(text):
    return Literal(LiteralKind.NUMBER, text)


def where_of(condition):
    return parse(f"select s from root.sg where {condition}", CONTEXT).where


def test_select_with_everything():
    statement = parse(
        "SELECT s1 AS v, count(d.*) , ab* FROM root.sg.*, root.`select` WHERE s1 > -1.5 "
        "ORDER BY TIME DESC LIMIT 3 OFFSET 2 SLIMIT 1 SOFFSET 4;",
        CONTEXT,
    )
    assert statement == Select(
        items=(
            SelectItem(PathExpression("s1"), "v"),
            SelectItem(FunctionCall("count", (PathExpression("d.*"),))),
            SelectItem(PathExpression("ab*")),
        ),
        prefixes=("root.sg.*", "root.select"),
        where=ValueCompare("s1", Comparison.GT, number("-1.5")),
        limit=3,
        offset=2,
        series_limit=1,
        series_offset=4,
        order_descending=True,
        order_given=True,
    )


def test_not_binds_before_and_before_or():
    assert where_of("a = 1 or not (b = 2) and root.c.d <> 3 || time >= 4") == Or(
        (
            ValueCompare("a", Comparison.EQ, number("1")),
            And(
                (
                    Not(ValueCompare("b", Comparison.EQ, number("2"))),
                    ValueCompare("root.c.d", Comparison.NE, number("3")),
                )
            ),
            TimeCompare(Comparison.GE, 4),
        )
    )


def test_times_in_conditions():
    assert where_of("time > now() - 1d + 2h") == TimeCompare(
        Comparison.GT, NOW - 86_400_000 + 7_200_000
    )
    assert where_of("timestamp not in (1, 1970-01-01T08:00:00)") == TimeIn((1, 0), negated=True)
    assert where_of("time < now()-1mo") == TimeCompare(Comparison.LT, NOW - 31 * 86_400_000)


def test_values_in_conditions():
    assert where_of("'a b' in (1, \"x\\n\", true, NaN)") == ValueIn(
        "'a b'",
        (
            number("1"),
            Literal(LiteralKind.STRING, "x\n"),
            Literal(LiteralKind.BOOLEAN, "true"),
            Literal(LiteralKind.NAN, "NaN"),
        ),
    )


def test_create_timeseries_options():
    assert parse(
        "create timeseries root.sg.d.s(`a b`) with datatype=DOUBLE encoding=PLAIN, "
        "max_point_number=3 tags('k 1'=v, k2=-1.5) attributes(k='v \\'q\\'')",
        CONTEXT,
    ) == CreateTimeseries(
        "root.sg.d.s",
        DataType.DOUBLE,
        encoding=0,
        alias="a b",
        props=(("max_point_number", "3"),),
        tags=(("k 1", "v"), ("k2", "-1.5")),
        attributes=(("k", "v 'q'"),),
    )


def test_aligned_columns_get_defaults_and_options_after_commas():
    statement = parse(
        "create aligned timeseries root.sg.d(a with datatype=INT32, encoding=PLAIN, b DOUBLE)",
        CONTEXT,
    )
    assert isinstance(statement, CreateAlignedTimeseries)
    assert [(c.measurement, c.data_type, c.encoding, c.compressor) for c in statement.columns] == [
        ("a", DataType.INT32, 0, 1),
        ("b", DataType.DOUBLE, 8, 1),
    ]


def test_insert_of_unusual_shape():
    statement = parse(
        "insert into root.sg.d(time s1, `x y`) values (now() - 1s, - 1 'a\\\\b',)", CONTEXT
    )
    assert statement == Insert(
        "root.sg.d",
        ("s1", "x y"),
        False,
        (NOW - 1000,),
        ((number("-1"), Literal(LiteralKind.STRING, "a\\b")),),
    )


def test_delete_ranges():
    def span(condition):
        statement = parse(f"delete from root.a.** {condition}", CONTEXT)
        assert isinstance(statement, DeleteData)
        return statement.t_min, statement.t_max

    assert span("") == (T_MIN, T_MAX)
    assert span("where time > 1 and time <= 10") == (2, 10)
    assert span("where time = 4") == (4, 4)
    assert span("where (time >= 3)") == (3, T_MAX)


def test_small_statements():
    assert parse("SHOW VERSION", CONTEXT) == ShowVersion()
    assert parse("flush root.a, root.b FALSE", CONTEXT) == Flush(("root.a", "root.b"), False)
    assert parse("count timeseries root.a.* group by level = 3", CONTEXT) == CountTimeseries(
        "root.a.*", 3
    )
    assert parse("show devices with database offset 1 limit 2", CONTEXT) == ShowDevices(
        "root.**", True, 2, 1
    )
    assert is_query(ShowVersion())
    assert not is_query(Flush())


CONSTANTS = ("TRUE", "FALSE", "NULL", "NAN")
"""What these words mean in the select list."""

NAMES = sorted(keywords() - tokens.RESERVED)


@pytest.mark.parametrize("word", NAMES)
def test_keywords_are_names_where_they_can_be(word):
    name = word.lower()
    path = f"root.{name}.{name}"
    first = f"`{name}`" if word in CONSTANTS else name
    select = parse(f"select {first}, {first}.{name}, x as {name} from {path}, {path}", CONTEXT)
    assert select.items[0].expression == PathExpression(name)
    assert select.items[2].alias == name
    assert select.prefixes == (path, path)
    assert parse(f"create timeseries {path}({name}) INT32", CONTEXT).alias == name
    assert parse(f"insert into {path}({name}) values (1)", CONTEXT).measurements == (name,)
    assert parse(f"show timeseries {path}", CONTEXT).pattern == path
    if word != "NOT":
        compare = parse(f"select s from {path} where {name} = 1", CONTEXT).where
        assert compare == ValueCompare(name, Comparison.EQ, number("1"))


def test_numbers_and_strings_are_paths_in_the_old_dialect():
    old = ParseContext(prefix_dialect=True)
    assert parse("select 1, 's1' from root.sg", old).items == (
        SelectItem(PathExpression("1")),
        SelectItem(PathExpression("'s1'")),
    )
    (item,) = parse("select 1 from root.sg", CONTEXT).items
    assert item.expression == ConstantExpression(number("1"), "1")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select s1\n from roo.sg", r"line 2:6 mismatched input 'roo' expecting ROOT"),
        ("", r"line 1:0 mismatched input '<EOF>' expecting {ALTER, CANCEL, CLEAR, COUNT, "),
        ("select s from root.sg;;", r"line 1:22 mismatched input ';' expecting <EOF>"),
        ("select s from root.a.1s", r"line 1:21 mismatched input '1s' expecting"),
        ("select 'abc from root", r"line 1:7 token recognition error at: '''"),
        ("select s from root.root", r"line 1:19 mismatched input 'root'"),
        ("select s from root.sg limit -", r"mismatched input '<EOF>' expecting INTEGER_LITERAL"),
        ("select s from root.a where " + "(" * 300, r"more than 200 open parentheses"),
    ],
)
def test_syntax_errors_say_where(sql, message):
    with pytest.raises(ClusterError) as caught:
        parse(sql, CONTEXT)
    assert caught.value.status == StatusCode.SQL_PARSE_ERROR
    assert caught.value.message.startswith("Error occurred while parsing SQL to physical plan: ")
    assert re.search(message.replace("{", r"\{"), caught.value.message)


def test_expected_tokens_are_those_before_the_failing_one():
    with pytest.raises(ClusterError) as caught:
        parse('create timeseries root.sg.d.a"."b with datatype=INT64', CONTEXT)
    assert caught.value.message.endswith(
        "line 1:29 mismatched input '\".\"' expecting {'(', '.', DATATYPE, DATATYPE_VALUE, WITH}"
    )


WORDS = """
    select insert into from root . , ( ) * ** s1 'a' `b` 1 1.5 1d now = > and or not in where time
    limit values ; create timeseries with datatype INT32 order by desc - + ! like delete show
    devices " ` 2022-01-01 \x00 é
"""


@given(st.lists(st.sampled_from(WORDS.split()), max_size=12))
@settings(max_examples=400, deadline=None)
def test_any_text_gives_a_statement_or_a_cluster_error(words):
    status = None
    try:
        parse(" ".join(words), CONTEXT)
    except ClusterError as error:
        status = error.status
    assert status in (
        None,
        StatusCode.SQL_PARSE_ERROR,
        StatusCode.METADATA_ERROR,
        StatusCode.PATH_ILLEGAL,
    )


def test_a_bad_zone_is_an_error_of_the_statement():
    with pytest.raises(ClusterError, match="not a time zone"):
        parse("select s from root.a where time > 2022-01-01", ParseContext(zone="Nowhere/Land"))


def test_grammar_is_built_once_for_all_threads(monkeypatch):
    built = []
    real = parser_module._build_grammar

    def build(generation):
        built.append(threading.current_thread())
        return real(generation)

    monkeypatch.setattr(parser_module, "_build_grammar", build)
    lazy = parser_module._LazyGrammar("v0")
    start = threading.Barrier(4)
    seen = []

    def use():
        start.wait()
        seen.append(lazy.get())

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert all(grammar is seen[0] for grammar in seen)


def test_every_keyword_is_used_by_the_grammar():
    keywords = parser_module._GRAMMAR.get().keywords
    used = set(re.findall(r"\b_?[A-Z][A-Z0-9_]*\b", parser_module.grammar_text()))
    assert set(keywords.values()) <= used


@pytest.mark.parametrize(
    ("sql", "full"), [("merge", False), ("MERGE ON LOCAL", False), ("full merge", True)]
)
def test_merge_and_full_merge_differ(sql, full):
    assert parse(sql, CONTEXT).full is full


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("select from root.sg.d", "line 1:7 mismatched input 'from' expecting"),
        ("select s1, from root.sg.d", "line 1:11 mismatched input 'from' expecting"),
        ("select s1 +\nfrom root.sg.d", "line 2:0 mismatched input 'from' expecting"),
        ("select s1 as from root.sg.d", "line 1:13 mismatched input 'from' expecting {BACK_QUOTED"),
        ("select s1 into from root.sg.d", "line 1:15 mismatched input 'from' expecting"),
        ("insert into root.sg.d(time,s values(1,1)", "line 1:29 mismatched input 'values' exp"),
        ("select s1 from root.sg.d limit", "line 1:30 mismatched input '<EOF>' expecting"),
        ("select a b from root.sg.d", "line 1:9 mismatched input 'b' expecting"),
    ],
)
def test_a_clause_that_was_taken_for_a_name_is_what_is_told(sql, told):
    with pytest.raises(ClusterError) as caught:
        parse(sql, ParseContext(zone="Z", now=0, precision="ms"))
    assert told in caught.value.message


def test_clauses_may_still_be_names():
    select = parse("select from, where from root.sg.limit", ParseContext())
    assert [str(item.expression.path) for item in select.items] == ["from", "where"]
    assert select.prefixes == ("root.sg.limit",)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(s) FROM root.a.d* HAVING count(s) > 1",
        "SELECT s FROM root.a.d WHERE s* AND t* OR u* IS NULL",
        "SELECT CASE WHEN s* THEN t* ELSE u* END FROM root.a.d",
        "SELECT s FROM root.a.d WHERE s* BETWEEN 1 AND 2 ORDER BY s* DESC, t* NULLS LAST, u",
        "SELECT last FROM root.a.d ORDER BY last NULLS LAST, s",
        "COUNT NODES root.a.d* LEVEL=2",
        "COUNT TIMESERIES root.a.d* GROUP BY LEVEL=2",
    ],
)
def test_words_behind_a_part_of_a_name(sql):
    told = repr(parse(sql, ParseContext(modern=True)))
    names = re.findall(r"[\w.]+\*", sql) or ["last"]
    assert [name for name in names if f"'{name}'" not in told] == []


def test_a_product_with_a_name_that_is_a_word_elsewhere():
    (item,) = parse("SELECT s*level FROM root.a.d", ParseContext()).items
    assert isinstance(item.expression, BinaryExpression)
