from __future__ import annotations

import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import registry

import iotdb_client
from harness.fake_database import FakeDatabase, Table, serving

registry.register("iotdb", "iotdb_client.dialect", "IotdbDialect")


@pytest.fixture
def engine():
    made = sa.create_engine("iotdb:///:memory:")
    with made.connect() as connection:
        connection.execute(
            sa.text("insert into root.sg.d1(time, a, b) values (:t, :a, :b)"),
            [{"t": 1, "a": 1.5, "b": "x"}, {"t": 2, "a": 2.5, "b": None}],
        )
    yield made
    made.dispose()


@pytest.fixture
def table(engine):
    return sa.Table("root.sg.d1", sa.MetaData(), autoload_with=engine)


def test_text_statements(engine):
    with engine.connect() as connection:
        found = connection.execute(
            sa.text("select a from root.sg.d1 where time > :t"), {"t": 1}
        ).fetchall()
    assert found == [(2, 2.5)]


def test_reflection(engine):
    seen = sa.inspect(engine)
    assert seen.get_schema_names() == ["root.sg"]
    assert seen.get_table_names() == ["root.sg.d1"]
    assert seen.get_table_names(schema="root.sg") == ["d1"]
    assert seen.get_view_names() == []
    assert seen.has_table("root.sg.d1")
    assert seen.has_table("d1", schema="root.sg")
    assert not seen.has_table("root.sg.none")
    assert [(c["name"], str(c["type"])) for c in seen.get_columns("root.sg.d1")] == [
        ("Time", "BIGINT"),
        ("a", "FLOAT"),
        ("b", "TEXT"),
    ]
    assert seen.get_pk_constraint("root.sg.d1")["constrained_columns"] == ["Time"]
    assert seen.get_foreign_keys("root.sg.d1") == seen.get_indexes("root.sg.d1") == []
    with pytest.raises(sa.exc.NoSuchTableError):
        sa.Table("root.sg.none", sa.MetaData(), autoload_with=engine)


def test_select(engine, table):
    c = table.c
    with engine.connect() as connection:

        def rows(statement):
            return [tuple(row) for row in connection.execute(statement)]

        assert rows(sa.select(table)) == [(1, 1.5, "x"), (2, 2.5, None)]
        assert rows(sa.select(c.a, c.Time).where(c.Time > 1)) == [(2.5, 2)]
        assert rows(sa.select(c.b).where(c.a < 2)) == [("x",)]
        assert rows(sa.select(c.a).order_by(c.Time.desc()).limit(1)) == [(2.5,)]
        assert rows(sa.select(c.a).limit(1).offset(1)) == [(2.5,)]
        assert rows(sa.select(sa.func.count(c.a), sa.func.max_value(c.a))) == [(2, 2.5)]
        row = connection.execute(sa.select(c.b, c.a)).mappings().first()
        assert dict(row) == {"b": "x", "a": 1.5}
        with pytest.raises(sa.exc.CompileError, match="measurement"):
            connection.execute(sa.select(c.Time))


def test_insert_and_delete(engine, table):
    with engine.begin() as connection:
        connection.execute(sa.insert(table), [{"Time": 3, "a": 3.5, "b": "y"}])
        connection.execute(sa.insert(table).values(Time=4, a=4.5))
        connection.execute(sa.delete(table).where(table.c.Time < 3))
        found = connection.execute(sa.select(table)).fetchall()
    assert [tuple(row) for row in found] == [(3, 3.5, "y"), (4, 4.5, None)]


def test_tables_are_made_and_dropped(engine):
    metadata = sa.MetaData()
    made = sa.Table(
        "d2",
        metadata,
        sa.Column("Time", sa.BigInteger, primary_key=True),
        sa.Column("flag", sa.Boolean),
        sa.Column("n", sa.Integer),
        sa.Column("l", sa.BigInteger),
        sa.Column("f", sa.REAL),
        sa.Column("d", sa.Double),
        sa.Column("t", sa.String(20)),
        sa.Column("two words", sa.Text),
        schema="root.sg",
    )
    metadata.create_all(engine)
    metadata.create_all(engine)  # what exists is left alone
    with engine.connect() as connection:
        shown = connection.exec_driver_sql("show timeseries root.sg.d2.*").fetchall()
        types = {row[0].removeprefix("root.sg.d2."): row[3] for row in shown}
        assert types == {
            "flag": "BOOLEAN",
            "n": "INT32",
            "l": "INT64",
            "f": "FLOAT",
            "d": "DOUBLE",
            "t": "TEXT",
            "two words": "TEXT",
        }
        connection.execute(sa.insert(made).values(Time=1, n=7))
        assert connection.execute(sa.select(made.c.n)).fetchall() == [(7,)]
        connection.execute(sa.insert(made), [{"Time": 2, "two words": "x"}])
        assert connection.execute(sa.select(made.c["two words"])).fetchall() == [("x",)]
    metadata.drop_all(engine)
    assert not sa.inspect(engine).has_table("root.sg.d2")


def test_pandas_reads_and_writes(engine):
    frame = pd.DataFrame(
        {"Time": [1, 2, 3], "x": [1.5, None, 3.5], "n": [1, 2, 3], "s": ["a", None, "c"]}
    )
    frame.to_sql("root.sg.frame", engine, index=False, if_exists="append")
    back = pd.read_sql_table("root.sg.frame", engine)[["Time", "x", "n", "s"]]
    pd.testing.assert_frame_equal(back, frame, check_dtype=False)
    found = pd.read_sql("select x, n from root.sg.frame where time > 1", engine)
    assert list(found.columns) == ["Time", "root.sg.frame.x", "root.sg.frame.n"]
    assert found["Time"].tolist() == [2, 3]
    frame.to_sql("root.sg.frame", engine, index=False, if_exists="replace")
    assert len(pd.read_sql_table("root.sg.frame", engine)) == 3


@pytest.mark.parametrize("options", [{}, {"chunksize": 2}, {"method": "multi"}])
def test_pandas_is_told_how_many_rows_it_wrote(engine, options):
    frame = pd.DataFrame({"Time": [1, 2, 3], "x": [1.5, None, 3.5]})
    assert frame.to_sql("root.sg.frame", engine, index=False, **options) == 3
    assert frame[:1].to_sql("root.sg.row", engine, index=False, **options) == 1


@pytest.mark.parametrize("options", [{}, {"method": "multi"}])
def test_rows_without_times_are_not_written_over_one_another(engine, options):
    frame = pd.DataFrame({"x": [1.5, 2.5, 3.5]})
    with pytest.raises((sa.exc.DatabaseError, pd.errors.DatabaseError), match="time"):
        frame.to_sql("root.sg.frame", engine, **options)
    with engine.connect() as connection:
        assert connection.execute(sa.text("select x from root.sg.frame")).fetchall() == []


def test_a_name_that_is_no_path_is_told(engine):
    assert not sa.inspect(engine).has_table("fan")
    with pytest.raises(sa.exc.NoSuchTableError):
        sa.Table("fan", sa.MetaData(), autoload_with=engine)
    with pytest.raises(sa.exc.CompileError, match=r"'fan'.*full path.*root\.sg\.d1"):
        pd.DataFrame({"Time": [1], "x": [1.5]}).to_sql("fan", engine, index=False)


def test_errors_are_the_drivers(engine):
    with engine.connect() as connection:
        with pytest.raises(sa.exc.ProgrammingError) as caught:
            connection.exec_driver_sql("select nonsense from")
        assert isinstance(caught.value.orig, iotdb_client.ProgrammingError)
        assert connection.exec_driver_sql("show version").scalar()


def test_several_hosts_over_the_wire():
    database = FakeDatabase()
    database.results["show version"] = Table(["version"], ["TEXT"], [("0.13.5",)])
    with serving(database) as port:
        engine = sa.create_engine(
            f"iotdb://root:root@127.0.0.1:1/?hosts=127.0.0.1:{port}&fetch_size=7&time_zone=UTC"
        )
        with engine.connect() as connection:
            info = connection.connection.driver_connection.info
        engine.dispose()
    assert info.hosts == (("127.0.0.1", 1), ("127.0.0.1", port))
    assert (info.fetch_size, info.zone) == (7, "UTC")


def test_a_folder(tmp_path):
    engine = sa.create_engine(f"iotdb:///{tmp_path}/db")
    with engine.connect() as connection:
        connection.exec_driver_sql("insert into root.sg.d(time, s) values (1, 1)")
    engine.dispose()
    with iotdb_client.connect(tmp_path / "db") as connection:
        assert connection.execute("select s from root.sg.d").fetchall() == [(1, 1.0)]


def test_a_storage_group_as_schema(engine):
    frame = pd.DataFrame({"Time": [1, 2], "x": [1.5, 2.5]})
    assert frame.to_sql("d2", engine, schema="root.sg", index=False, if_exists="append") == 2
    assert frame.to_sql("d3", engine, index=False, schema="root.sg", method="multi") == 2
    back = pd.read_sql_table("d2", engine, schema="root.sg")
    assert back.to_dict("list") == frame.to_dict("list")
    known = sa.MetaData()
    known.reflect(engine, schema="root.sg")
    assert sorted(known.tables) == ["root.sg.d1", "root.sg.d2", "root.sg.d3"]


def test_names_that_need_quotes(engine):
    with engine.connect() as connection:
        insert = "insert into root.sg.`line 1`(time, `a b`, \u503c) values (1, 2, 3)"
        connection.execute(sa.text(insert))
        assert "root.sg.line 1" in sa.inspect(engine).get_table_names()
        for name, schema in (("root.sg.line 1", None), ("line 1", "root.sg")):
            table = sa.Table(name, sa.MetaData(), schema=schema, autoload_with=engine)
            assert [column.name for column in table.columns] == ["Time", "a b", "\u503c"]
            assert connection.execute(sa.select(table)).fetchall() == [(1, 2.0, 3.0)]
            connection.execute(sa.insert(table), [{"Time": 1, "a b": 2.0, "\u503c": 3.0}])


def test_conditions_that_the_database_spells_otherwise(engine, table):
    c = table.c
    with engine.connect() as connection:

        def times(*conditions):
            found = connection.execute(sa.select(c.Time, c.a).where(*conditions))
            return [row[0] for row in found]

        connection.execute(sa.text("insert into root.sg.d1(time, a, ok) values (3, 3.5, true)"))
        connection.execute(sa.text("insert into root.sg.d1(time, a, ok) values (4, 4.5, false)"))
        assert times(c.Time.between(2, 3)) == [2, 3]
        assert times(~c.Time.between(2, 3)) == [1, 4]
        assert times(c.a.between(2.0, 4.0), c.Time > 2) == [3]
        fresh = sa.Table("root.sg.d1", sa.MetaData(), autoload_with=engine)
        query = sa.select(fresh.c.a)
        assert connection.execute(query.where(fresh.c.ok)).fetchall() == [(3.5,)]
        assert connection.execute(query.where(~fresh.c.ok)).fetchall() == [(4.5,)]


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("iotdb://u:p@[::1]:7000/", "jdbc:iotdb://[::1]:7000/"),
        (
            "iotdb://h/?time_zone=%2B08:00&hosts=h2:1",
            "jdbc:iotdb://h:6667,h2:1/?time_zone=%2B08%3A00",
        ),
    ],
)
def test_urls(url, text):
    made = sa.create_engine(url)
    assert made.dialect.create_connect_args(made.url)[0][0] == text
