from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cluster.errors import ClusterError
from cluster.sql.context import ParseContext
from cluster.sql.fast_insert import fast_insert
from cluster.sql.parser import parse, parse_with_grammar
from cluster.sql.statements.data import Insert
from cluster.sql.statements.literals import Literal, LiteralKind

CONTEXT = ParseContext(zone="Z", now=1_700_000_000_000)

SPACE = st.sampled_from(["", " ", "\n", "\t "])
CALM_NAME = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,4}", fullmatch=True)
ODD_NAMES = """
    values aligned select time TimeStamp root null a:b {x} 温度 1s 1e5 5 `q` 'q' _
"""
NAME = st.one_of(CALM_NAME, st.sampled_from(ODD_NAMES.split()))
CALM_CELLS = """
    1 -1 +1.50 1. .5 -.5e3 1e5 1.5E+3 NaN nan NULL null TRUE False 'a' "b" '' 'a,b)(' "it's"
    -9223372036854775808 99999999999999999999
"""
CALM_CELL = st.one_of(
    st.sampled_from(CALM_CELLS.split()),
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
)
ODD_CELLS = """
    1.e5 1.2.3 'it\\'s' now() 2022-01-01T00:00:00 now()+1d text 1s 0x1 'unclosed １
"""
CELL = st.one_of(
    CALM_CELL,
    st.sampled_from([*ODD_CELLS.split(), "", "- 1", "1 2", "now() + 1d"]),
    st.text(alphabet="ab'\"\\,() \n", max_size=4).map(lambda text: f"'{text}'"),
)
DEVICES = ["root.sg.d1", "ROOT.a", "root.sg.time", "root.`x`.y", "root.1.b"]


@st.composite
def inserts(draw):
    """Half of them calm: of the shape that the fast way is for."""

    def gap() -> str:
        return draw(SPACE)

    calm = draw(st.booleans())
    width = draw(st.integers(1, 3))
    names = [draw(CALM_NAME if calm else NAME) for _ in range(width)]
    time_name = draw(st.sampled_from(["time", "timestamp", "TIME"]))
    integer = st.integers(-(2**63), 2**63 - 1).map(str)
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        count = width if calm else width + draw(st.sampled_from([0] * 9 + [-1, 1]))
        cells = [draw(CALM_CELL if calm else CELL) for _ in range(count)]
        time = draw(integer if calm else st.one_of(integer, CELL))
        rows.append("(" + ",".join(gap() + cell + gap() for cell in [time, *cells]) + ")")
    device = DEVICES[0] if calm else draw(st.sampled_from(DEVICES))
    separator = draw(st.sampled_from([",", " ", ", ", ""]))
    columns = f",{gap()}".join([time_name, *names])
    aligned = draw(st.sampled_from(["", "aligned ", "ALIGNED\n"]))
    verb = draw(st.sampled_from(["insert into", "INSERT  INTO"]))
    end = draw(st.sampled_from(["", ";", " ; "] if calm else ["", ";;", " x", ","]))
    return (
        f"{gap()}{verb} {device}{gap()}({gap()}{columns}{gap()}){gap()}{aligned}"
        f"values{gap()}{separator.join(rows)}{end}"
    )


@given(inserts())
@settings(max_examples=600, deadline=None)
@example("insert into root.a(time,b) values(1,'a')(2,\"b\");")
@example("insert into root.a(time,b) aligned values(1,1e5),")
@example("in\u017fert into root.a(time,b) values(1,2)")
@example("insert into root.a(time,b) values(\u0661,2)")
def test_equals_the_grammar_wherever_it_answers(sql):
    fast = fast_insert(sql)
    if fast is not None:
        assert parse_with_grammar(sql, CONTEXT) == fast


def test_takes_the_usual_shapes():
    usual = [
        "INSERT INTO root.sg.d1(timestamp,s1,s2) VALUES(1,1.0,-2)",
        "insert into root.sg.d1 ( time , s1 ) aligned values ( 1 , 'a' ) , (2, \"b\") (3,null);",
        "insert into root.sg.values(time,select) values(-5,NaN)",
    ]
    assert all(fast_insert(sql) is not None for sql in usual)


def test_gives_times_cells_and_names():
    statement = parse(
        "insert into root.sg.d1(time,s1,s2) aligned values(-3,'a,)',TRUE),(4,+.5,null)", CONTEXT
    )
    kind = LiteralKind
    assert statement == Insert(
        "root.sg.d1",
        ("s1", "s2"),
        True,
        (-3, 4),
        (
            (Literal(kind.STRING, "a,)"), Literal(kind.BOOLEAN, "TRUE")),
            (Literal(kind.NUMBER, "+.5"), Literal(kind.NULL, "null")),
        ),
    )


@pytest.mark.parametrize(
    "sql",
    [
        "insert into root.sg.d1(time,s1) values(1)",
        "insert into root.sg.d1(time,s1) values(1,2,3)",
        "insert into root.sg.d1(time,s1) values",
        "insert into root.sg.d1(time,s1) values(1,2),",
        "insert into root.sg.d1(time,s1) values(1,2) extra",
        "insert into root.sg.d1(time,time) values(1,2)",
        "insert into root.sg.d1(time,s1) values(99999999999999999999,2)",
        "insert into root.sg.d1(time,s1) values(1.5,2)",
        "insert into root.sg.d1(time,s1) values('1',2)",
    ],
)
def test_leaves_errors_to_the_grammar(sql):
    assert fast_insert(sql) is None
    with pytest.raises(ClusterError):
        parse(sql, CONTEXT)
