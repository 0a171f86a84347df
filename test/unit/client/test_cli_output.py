from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

import iotdb_client
from cluster.errors import ClusterError
from cluster.query.function_names import BUILT_IN, NATIVE
from cluster.sql.context import ParseContext
from cluster.sql.parser import keywords, parse
from harness.fake_database import Table
from harness.process_cluster import ROOT
from iotdb_client.cli.csv_cells import csv_line, quoted_empties
from iotdb_client.cli.editing import SqlCompleter, SqlLexer, begins_statement, is_complete
from iotdb_client.cli.keywords import FUNCTIONS, KEYWORDS
from iotdb_client.cli.main import main
from iotdb_client.cli.plot import plot_lines
from iotdb_client.cli.shell import Cancelled, Shell
from iotdb_client.cli.transfer import Place, whole_records
from iotdb_client.errors import ProgrammingError

ROWS = Table(
    ["root.d.f", "b", "t"],
    ["FLOAT", "BOOLEAN", "TEXT"],
    [(0.1, True, 'a|"b",\n'), (None, None, None), (float("nan"), False, "")],
    times=[0, 1, 2],
)


@pytest.fixture
def run(port):
    def invoke(*arguments, stdin=""):
        return CliRunner().invoke(
            main, ["-h", "127.0.0.1", "-p", str(port), "-tz", "UTC", *arguments], input=stdin
        )

    return invoke


@pytest.fixture
def folder(tmp_path):
    """A folder with a thousand rows, and what runs the shell on it."""
    path = tmp_path / "db"
    with iotdb_client.connect(path, zone="UTC") as connection:
        connection.cursor().executemany(
            "insert into root.a.d(time, s, t) values (?, ?, ?)",
            [(n, n / 2, f"x\n{n}" if n % 7 else None) for n in range(1000)],
        )

    def invoke(*arguments, stdin=b""):
        return CliRunner().invoke(main, ["--url", str(path), "-tz", "UTC", *arguments], input=stdin)

    return invoke


# ---- formats ----


def test_csv(database, run):
    database.results["q"] = ROWS
    text = run("--format", "csv", "-e", "q").stdout
    assert list(csv.reader(io.StringIO(text))) == [
        ["Time", "root.d.f", "b", "t"],
        ["1970-01-01T00:00:00.000Z", "0.1", "true", 'a|"b",\n'],
        ["1970-01-01T00:00:00.001Z", "", "", ""],
        ["1970-01-01T00:00:00.002Z", "nan", "false", ""],
    ]


def test_json(database, run):
    database.results["q"] = ROWS
    database.results["none"] = Table(["a", "a"], ["INT64"] * 2, [], times=[])
    database.results["twice"] = Table(["a", "a"], ["INT64"] * 2, [(2**60, 2**60)])
    assert json.loads(run("--format", "json", "-e", "q").stdout) == [
        {"Time": "1970-01-01T00:00:00.000Z", "root.d.f": 0.1, "b": True, "t": 'a|"b",\n'},
        {"Time": "1970-01-01T00:00:00.001Z", "root.d.f": None, "b": None, "t": None},
        {"Time": "1970-01-01T00:00:00.002Z", "root.d.f": None, "b": False, "t": ""},
    ]
    assert json.loads(run("--format", "json", "-e", "none").stdout) == []
    assert json.loads(run("--format", "json", "-e", "twice").stdout) == [
        {"a": 2**60, "a (2)": 2**60}
    ]
    numbers = run("--format", "json", "-disableISO8601", "-e", "q").stdout
    assert [row["Time"] for row in json.loads(numbers)] == [0, 1, 2]


def test_markdown(database, run):
    database.results["q"] = ROWS
    assert run("--format", "markdown", "-e", "q").stdout.splitlines()[:3] == [
        "| Time | root.d.f | b | t |",
        "| --- | ---: | --- | --- |",
        '| 1970-01-01T00:00:00.000Z | 0.1 | true | a\\|"b",\\\\n |',
    ]


def test_only_tables_talk(run):
    assert run("--format", "csv", "-e", "insert").stdout == ""
    assert "It costs" not in run("--no-timing", "-e", "insert").stdout


def test_commands(database, run):
    database.results["q"] = Table(["a"], ["INT64"], [(1,)], times=[5])
    result = run(stdin="\\format csv\n\\timing off\nq\n\\help\n\\q\nq\n")
    assert result.stdout.startswith("Time,a\n1970-01-01T00:00:00.005Z,1\n")
    assert "\\plot" in result.stdout
    assert database.statements == ["q"]


@pytest.mark.parametrize("command", ["\\nonsense", "\\format xml", "\\timing", "\\plot"])
def test_a_command_that_fails_ends_the_run(database, run, command):
    for result in (run("-e", f"{command}; q"), run(stdin=f"{command}\nq\n")):
        assert result.exit_code == 1
        assert f"no such command: {command}" in result.stderr
        assert database.statements == []


def test_settings_of_the_familys_shell(folder):
    def lines(sql):
        result = folder("--no-timing", "-e", sql)
        assert result.exit_code == 0, result.stderr
        return result.stdout.splitlines()

    told = lines("set time_zone=+08:00; SHOW time_zone; select s from root.a.d where time < 1")
    assert told[:2] == ["Msg: time_zone is +08:00"] * 2
    assert any("1970-01-01T08:00:00.000+08:00" in line for line in told)
    told = lines(
        "set time_zone=+08:00; select count(s) from root.a.d where time < 1970-01-01T08:00:01"
    )
    assert told[4].strip("| ") == "1000"
    told = lines(
        "set time_display_type = long ;show time_display_type; select s from root.a.d where time=7"
    )
    assert told[:2] == ["Msg: time_display_type is long"] * 2
    assert "|   7|" in told[5]
    told = lines("set max_display_num=2; set fetch_size=3; show fetch_size; select s from root.a.d")
    assert told[2] == "Msg: fetch_size is 3"
    assert told[-2:] == ["Total line number = 2", "Msg: there are more; -maxPRC is 2"]
    assert lines("show max_display_num") == ["Msg: max_display_num is without limit"]
    for wrong in ("time_zone=Mars", "time_display_type=x", "fetch_size=0", "max_display_num="):
        result = folder("-e", f"set {wrong}")
        assert result.exit_code == 1
        assert result.stderr.startswith("Msg: ")


def test_exit_codes(database, run):
    assert run("-e", "fine").exit_code == 0
    assert run("--format", "xml").exit_code == 2
    assert run("--url", "127.0.0.1:1", "-e", "x").exit_code == 1


def test_the_shell_of_a_folder(folder):
    result = folder("--format", "csv", "-e", "select count(s) from root.a.d")
    assert result.stdout == "count(root.a.d.s)\n1000\n"
    assert result.exit_code == 0


def test_ctrl_c_cancels_at_the_server(database, port):
    database.hang = threading.Event()
    shell = Shell(lambda: iotdb_client.connect(f"127.0.0.1:{port}", zone="UTC"))
    shell.open()
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(Cancelled):
            shell.run("hang")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(database.cancelled) == 1
    assert shell.run_all(["next"])
    assert database.statements == ["hang", "next"]
    shell.close()


# ---- plot ----


def test_a_plot_has_its_extremes_at_its_edges(database, run):
    database.results["select"] = Table(
        ["s"], ["DOUBLE"], [(float(n),) for n in range(100)], times=[n * 1000 for n in range(100)]
    )
    lines = run("-e", "\\plot select").stdout.splitlines()
    assert lines[0] == "s, 100 points"
    assert lines[1].strip().startswith("99")
    assert lines[-3].strip().startswith("0")
    assert "1970-01-01T00:00:00.000Z" in lines[-1]
    assert "1970-01-01T00:01:39.000Z" in lines[-1]
    firsts = [re.search("[⠁-⣿]", line).start() for line in lines[1:-2]]
    assert firsts == sorted(firsts, reverse=True)  # it rises


def test_plots_of_little():
    assert "nothing to plot" in plot_lines([], [], str)[0]
    assert "nothing to plot" in plot_lines([1], [float("nan")], str)[0]
    assert len(plot_lines([1], [5.0], str, height=8)) == 10
    assert len(plot_lines([1, 2], [1e308, -1e308], str, height=8)) == 10


def test_plot_of_a_series(folder):
    assert "root.a.d.s, 1000 points" in folder("-e", "\\plot root.a.d.s").stdout
    result = folder("-e", "\\plot select t from root.a.d")
    assert "takes a result with Time" in result.stderr
    assert result.exit_code == 1
    for series in ("root.a.d.none", "root.none.s"):
        result = folder("-e", f"\\plot {series}")
        assert f"{series} has no numbers" in result.stderr
        assert result.exit_code == 1


# ---- editing ----


def completions(text, children=lambda path: [], requested=True):
    completer = SqlCompleter(children)
    event = CompleteEvent(completion_requested=requested)
    return [item.text for item in completer.get_completions(Document(text), event)]


def test_keywords_and_functions_are_those_of_the_server():
    assert frozenset(keywords()) == KEYWORDS
    assert frozenset(name.lower() for name in (*NATIVE, *BUILT_IN)) == FUNCTIONS


def test_words_that_begin_statements_are_those_of_the_server():
    for modern in (False, True):
        with pytest.raises(ClusterError) as caught:
            parse("", ParseContext(modern=modern))
        words = re.search(r"expecting \{(.*)\}", str(caught.value))[1].split(", ")
        assert [word for word in words if not begins_statement(f"  {word.lower()} x")] == []
    assert not any(map(begins_statement, ("from root.a", "where time > 1", "", "counts", "1")))
    assert all(map(begins_statement, ("exit", "QUIT;", "help", "\\q", "select\n", "count(*)")))


def test_completion_of_words():
    assert completions("sel") == ["select"]
    assert (
        completions("SHOW TIMES") == ["TIMESERIES", "TIMESTAMP"][: len(completions("SHOW TIMES"))]
    )
    assert "max_value(" in completions("select max_v")
    assert completions("select a from ro")[-1] == "root."
    assert completions("\\pl") == ["\\plot"]
    assert completions("select ", requested=False) == []


def test_completion_of_paths_asks_the_server_once():
    asked = []

    def children(path):
        asked.append(path)
        return [f"{path}.d1", f"{path}.d2", f"{path}.other"]

    completer = SqlCompleter(children)

    def complete(text):
        return [c.text for c in completer.get_completions(Document(text), CompleteEvent())]

    assert complete("select * from root.sg.d") == ["d1", "d2"]
    assert complete("select * from root.sg.o") == ["other"]
    assert asked == ["root.sg"]
    completer.forget()
    complete("select * from root.sg.")
    assert asked == ["root.sg", "root.sg"]


def test_what_can_not_be_asked_completes_nothing():
    def children(path):
        raise ProgrammingError("no such path")

    assert completions("select * from root.x.", children) == []
    assert completions("select * from root.*.") == []


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("show devices", True),
        ("select * from root.a;", True),
        ("select a,", False),
        ("select a from", False),
        ("insert into root.d(time, s", False),
        ("insert into root.d(time, s) values (1, 'it;", False),
        ("insert into root.d(time, s) values (1, 'a;b')", True),
        ("select a\nfrom root.d", False),
        ("select a\nfrom root.d;", True),
        ("select a from root.d where t = '\nx';", True),
        ("\\plot root.a", True),
        ("", True),
    ],
)
def test_when_enter_runs_a_text(text, complete):
    assert is_complete(text) is complete


def test_colours():
    kinds = {
        text: str(kind)
        for kind, text in SqlLexer().get_tokens("select avg(s) from root.a where t='x'")
    }
    assert kinds["select"] == "Token.Keyword"
    assert kinds["avg"] == "Token.Name.Function"
    assert kinds["root.a"] == "Token.Name.Namespace"
    assert kinds["'x'"] == "Token.Literal.String"


# ---- files ----


def test_an_export_comes_back_by_import(folder, tmp_path):
    out = tmp_path / "out.csv"
    done = folder("export", "select s, t from root.a.d", str(out))
    assert done.exit_code == 0, done.output
    assert "1000 rows" in done.stdout
    assert not out.with_name("out.csv.part").exists()
    back = folder("import-csv", str(out), "--device", "root.b.d", "--measurements", "s,t")
    assert back.exit_code == 0, back.output
    one = folder("--format", "csv", "-e", "select s, t from root.a.d").stdout
    assert folder("--format", "csv", "-e", "select s, t from root.b.d").stdout == one.replace(
        "root.a.d", "root.b.d"
    )


def test_an_export_goes_on_where_it_was_ended(folder, tmp_path):
    out, part = tmp_path / "out.csv", tmp_path / "out.csv.part"
    folder("export", "select s, t from root.a.d", str(out))
    whole = out.read_bytes()
    part.write_bytes(whole[:5003])  # in the middle of a row
    out.unlink()
    assert folder("export", "select s, t from root.a.d", str(out), "--resume").exit_code == 0
    assert out.read_bytes() == whole
    part.write_bytes(whole[:5003])
    result = folder("export", "select s, t from root.a.d where time > 3", str(out), "--resume")
    assert result.exit_code == 1
    assert "delete it to start anew" in result.stderr


def test_parquet_both_ways(folder, tmp_path):
    out = tmp_path / "out.parquet"
    assert folder("export", "select s, t from root.a.d", str(out)).exit_code == 0
    table = pq.read_table(out)
    assert table.num_rows == 1000
    assert table.column("Time").type == pa.timestamp("ms", "UTC")
    pq.write_table(table.rename_columns(["Time", "s", "t"]), out)
    back = folder("import-parquet", str(out), "--device", "root.c.d")
    assert back.exit_code == 0, back.output
    assert "1000" in folder("-e", "select count(s) from root.c.d").stdout
    empty = folder("export", "select s from root.a.d where time > 5000", str(out))
    assert empty.exit_code == 0
    assert pq.read_table(out).column_names == ["Time", "root.a.d.s"]


def test_an_import_goes_on_where_it_was_ended(folder, tmp_path, monkeypatch):
    path = tmp_path / "in.csv"
    path.write_text("time,v\n" + "".join(f"{n},{n}\n" for n in range(100)))
    options = ("--device", "root.i.d", "--time-format", "ms", "--batch", "10", "--resume")
    insert = iotdb_client.Connection.insert_tablet
    calls = []

    def failing(self, *arguments, **more):
        calls.append(len(arguments[3]))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return insert(self, *arguments, **more)

    from iotdb_client.session import Session

    insert = Session.insert_tablet
    monkeypatch.setattr(Session, "insert_tablet", failing)
    ended = folder("import-csv", str(path), *options)
    assert ended.exit_code == 130
    assert "--resume" in ended.stderr
    calls[:] = [0] * 10
    done = folder("import-csv", str(path), *options)
    assert "70 rows (70 points) written to root.i.d after the 30 of before" in done.stdout
    assert calls[10:] == [10] * 7
    assert not (tmp_path / "in.csv.import").exists()
    assert "100" in folder("-e", "select count(v) from root.i.d").stdout


def test_an_import_takes_the_types_of_series_that_exist(folder, tmp_path):
    """An INSERT makes FLOAT of 1.5; a column of decimals would be DOUBLE, and refused."""
    folder("-e", "insert into root.k.d(time, f, t, b) values (0, 1.5, '2', true)")
    path = tmp_path / "in.csv"
    path.write_text("time,f,t,b,n\n1,2.25,3,false,4\n")
    done = folder("import-csv", str(path), "--device", "root.k.d")
    assert done.exit_code == 0, done.stderr
    assert "f FLOAT, t TEXT, b BOOLEAN, n INT64" in done.stdout
    rows = folder("--format", "csv", "-disableISO8601", "-e", "select f, t, b, n from root.k.d")
    assert rows.stdout.splitlines()[1:] == ["0,1.5,2,true,", "1,2.25,3,false,4"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "line 3, column i: '1.5' is not a whole number"),
        (["--types", "DOUBLE,DOUBLE"], "root.k.d.i is there already, as INT32, not as DOUBLE"),
    ],
)
def test_an_import_that_does_not_fit_a_series_writes_no_other_column(
    folder, tmp_path, options, told
):
    folder("-e", "create timeseries root.k.d.i INT32")
    path = tmp_path / "in.csv"
    path.write_text("time,i,v\n1,1,2.5\n2,1.5,2.5\n")
    failed = folder("import-csv", str(path), "--device", "root.k.d", *options)
    assert failed.exit_code == 1
    assert told in failed.stderr
    assert "0 rows were written" in failed.stderr
    assert "root.k.d.v" not in folder("-e", "show timeseries root.k.**").stdout


def test_a_quote_that_is_never_closed_is_told_with_its_line(folder, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text('time,t\n1,a\n2,"b\n3,c\n4,d\n')
    failed = folder("import-csv", str(path), "--device", "root.k.d")
    assert failed.exit_code == 1
    assert "line 3: " in failed.stderr


def test_a_place_of_another_import_is_not_taken(folder, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("time,v\n1,1\n")
    (tmp_path / "in.csv.import").write_text('{"device": "root.x", "bytes": 1, "rows": 5}')
    result = folder("import-csv", str(path), "--device", "root.i.d", "--resume")
    assert result.exit_code == 1
    assert "delete it to start anew" in result.stderr


def test_an_empty_text_and_null_come_back(folder, tmp_path):
    database = tmp_path / "db"
    cells = [("", None), (None, ""), ("", ""), ("a", ""), ("", 'b"",""'), (None, "c")]
    stored = [(n, *row, n) for n, row in enumerate(cells)]
    with iotdb_client.connect(database, zone="UTC") as connection:
        connection.cursor().executemany(
            "insert into root.l.d(time, t, u, n) values (?, ?, ?, ?)", stored
        )
    out = tmp_path / "out.csv"
    assert folder("export", "select t, u, n from root.l.d", str(out)).exit_code == 0
    back = folder("import-csv", str(out), "--device", "root.m.d", "--measurements", "t,u,n")
    assert back.exit_code == 0, back.output
    with iotdb_client.connect(database, zone="UTC") as connection:
        rows = connection.cursor().execute("select t, u, n from root.m.d").fetchall()
    assert rows == stored
    lines = out.read_text().splitlines()
    assert [line.split(",", 1)[1] for line in lines[1:4]] == ['"",,0.0', ',"",1.0', '"","",2.0']


CSV_CELLS = st.lists(st.none() | st.text(alphabet='",;a\n\r ', max_size=4), min_size=2, max_size=5)


@given(CSV_CELLS, st.sampled_from(["\n", "\r\n", ""]))
def test_empty_texts_are_found_in_any_record(cells, end):
    line = csv_line(cells)
    assert next(csv.reader(io.StringIO(line + end, newline=""), strict=True)) == [
        cell or "" for cell in cells
    ]
    assert quoted_empties(line, ",") == {n for n, cell in enumerate(cells) if cell == ""}


LINE_ENDS = ["a\rb", "c\r\nd", "\r", "e\nf", 'g"\r"', "h"]


def test_texts_with_any_end_of_a_line_come_back(folder, tmp_path):
    database = tmp_path / "db"
    with iotdb_client.connect(database, zone="UTC") as connection:
        connection.cursor().executemany(
            "insert into root.l.d(time, t) values (?, ?)", list(enumerate(LINE_ENDS))
        )
    out, part = tmp_path / "out.csv", tmp_path / "out.csv.part"
    assert folder("export", "select t from root.l.d", str(out)).exit_code == 0
    whole = out.read_bytes()
    # what was written before is kept to the byte, wherever the run was ended
    for end in range(len(whole)):
        part.write_bytes(whole[:end])
        cut = _kept_of_a_part(part)
        assert whole.startswith(cut)
        records = list(csv.reader(io.StringIO(cut.decode(), newline=""), strict=True))
        assert [len(record) for record in records] == [2] * len(records)
    part.write_bytes(whole[:-3])
    assert folder("export", "select t from root.l.d", str(out), "--resume").exit_code == 0
    assert out.read_bytes() == whole
    back = folder("import-csv", str(out), "--device", "root.m.d", "--measurements", "t")
    assert back.exit_code == 0, back.output
    with iotdb_client.connect(database, zone="UTC") as connection:
        rows = connection.cursor().execute("select t from root.m.d").fetchall()
    assert [text for _, text in rows] == LINE_ENDS


def _kept_of_a_part(part):
    whole_records(part, "Time,root.l.d.t")
    return part.read_bytes()


def test_long_texts_are_imported(folder, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text(f"time,t\n1,{'x' * 200_000}\n")
    done = folder("import-csv", str(path), "--device", "root.n.d")
    assert done.exit_code == 0, done.output


def piped(path, data):
    """Make a pipe, and give it so many bytes once somebody reads it."""
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(data,))
    writer.start()
    return writer


@pytest.mark.parametrize("options", [[], ["--types", "INT64,TEXT"]])
def test_what_comes_through_a_pipe_is_imported_whole(folder, tmp_path, options):
    """It was read twice, so what the first reading took was lost."""
    rows = "".join(f"{n},{n},{'x' * 100}\n" for n in range(3000))
    writer = piped(tmp_path / "pipe", f"time,v,t\n{rows}".encode())
    done = folder("import-csv", str(tmp_path / "pipe"), "--device", "root.p.d", *options)
    writer.join()
    assert done.exit_code == 0, done.output
    assert "3000 rows (6000 points) written to root.p.d" in done.stdout
    answer = folder("--format", "csv", "-e", "select count(v), count(t) from root.p.d")
    assert answer.stdout.splitlines()[1] == "3000,3000"


def test_a_place_in_a_pipe_is_not_kept(folder, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    done = folder("import-csv", str(tmp_path / "pipe"), "--device", "root.p.d", "--resume")
    assert done.exit_code == 1
    assert "no file" in done.stderr


def test_parquet_comes_through_a_pipe(folder, tmp_path):
    pq.write_table(pa.table({"Time": [1, 2], "s": [0.5, 0.7]}), tmp_path / "in.parquet")
    writer = piped(tmp_path / "pipe", (tmp_path / "in.parquet").read_bytes())
    done = folder("import-parquet", str(tmp_path / "pipe"), "--device", "root.p.d")
    writer.join()
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("2 rows written")


def test_an_export_leaves_pipes_and_links_what_they_are(folder, tmp_path):
    """A device, /dev/null say, was replaced by a file."""
    out, pipe, link = (tmp_path / name for name in ("out.csv", "pipe", "link"))
    query = "select s, t from root.a.d"
    folder("export", query, str(out))
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    done = folder("export", query, str(pipe))
    reader.join()
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert "1000 rows" in done.stderr
    assert read == [out.read_bytes()]
    assert pipe.is_fifo()
    assert folder("export", query, str(pipe), "--resume").exit_code == 1
    link.symlink_to(out)
    assert folder("export", f"{query} limit 1", str(link)).exit_code == 0
    assert link.is_symlink()
    assert out.read_bytes() == b"".join(read[0].splitlines(keepends=True)[:2])


@pytest.mark.parametrize("kind", ["fifo", "link"])
def test_parquet_is_not_exported_to_what_cannot_be_sought(folder, tmp_path, kind):
    """Nobody reads of the pipe: who opened it would wait."""
    out = tmp_path / "out.parquet"
    reading, writing = os.pipe()
    try:
        if kind == "fifo":
            os.mkfifo(out)
        else:
            out.symlink_to(f"/proc/self/fd/{writing}")
        result = folder("export", "select s from root.a.d", str(out))
        os.set_blocking(reading, False)
        with pytest.raises(BlockingIOError):
            os.read(reading, 1)
    finally:
        os.close(reading)
        os.close(writing)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Msg: {out} is a pipe, or something like it: Parquet needs a file in which one can go "
        "back. Export to a file, or CSV to this\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "out.parquet"]


def test_what_is_no_query_is_not_run_by_an_export(folder, tmp_path):
    out = tmp_path / "out.csv"
    for sql in ("delete from root.a.d.*", "insert into root.a.d(time, s) values (-1, 1)"):
        result = folder("export", sql, str(out))
        assert "no query" in result.stderr
        assert result.exit_code == 1
    assert not out.exists()
    result = folder("--format", "csv", "-e", "select count(s) from root.a.d")
    assert result.stdout.splitlines()[1] == "1000"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_an_output_that_cannot_be_written_is_told(tmp_path):
    with open("/dev/full", "w") as full:
        done = run_with(tmp_path, "-e", "show version", stdout=full)
    assert done.returncode == 1
    assert done.stderr == "Msg: the output can't be written: No space left on device\n"


def run_with(tmp_path, *arguments, **files):
    return subprocess.run(
        [sys.executable, "-m", "iotdb_client.cli.main", "--url", f"{tmp_path}/db", *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        **files,
    )


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="no file that fails when read")
def test_an_input_that_cannot_be_read_is_told(tmp_path):
    with open("/proc/self/mem") as unreadable:
        done = run_with(tmp_path, stdin=unreadable)
    assert done.returncode == 1
    assert done.stderr == "Msg: the input can't be read: Input/output error\n"


def test_an_input_of_another_encoding_is_told(folder):
    result = folder(stdin=b"show version;\nselect '\xff'")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("Msg: the input is not utf-8: ")


def test_what_fails_by_itself_is_not_laid_on_the_output(folder, monkeypatch):
    def fail(self, statement):
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr(Shell, "run", fail)
    result = folder("-e", "show version")
    assert result.exit_code == 1
    assert result.stderr == "Msg: /some/file: Permission denied\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("command", ["import-csv", "import-parquet", "export"])
def test_a_report_that_cannot_be_written_is_told(tmp_path, command):
    arguments = [command, str(tmp_path / "in"), "--device", "root.a.d"]
    if command == "import-csv":
        (tmp_path / "in").write_text("time,s\n1,2\n")
    elif command == "import-parquet":
        pq.write_table(pa.table({"Time": [1], "s": [1]}), tmp_path / "in")
    else:
        arguments = [command, "show version", str(tmp_path / "out")]
    with open("/dev/full", "w") as full:
        done = run_with(tmp_path, *arguments, stdout=full)
    assert done.returncode == 1
    assert done.stderr == "Msg: the output can't be written: No space left on device\n"


@pytest.mark.parametrize("command", ["import-csv", "import-parquet"])
def test_a_place_that_cannot_be_kept_is_told_by_its_name(folder, tmp_path, command):
    if command == "import-csv":
        source = tmp_path / "in.csv"
        source.write_text("time,s\n1,2\n")
    else:
        source = tmp_path / "in.parquet"
        pq.write_table(pa.table({"Time": [1], "s": [1]}), source)
    (tmp_path / f"{source.name}.import-new").mkdir()
    batch = ("--batch", "1") if command == "import-csv" else ()
    result = folder(command, str(source), "--device", "root.o.d", "--resume", *batch)
    assert result.exit_code == 1
    assert f"{source}.import can't be written: Is a directory" in result.stderr


def test_files_that_cannot_be_written_or_read_are_told(folder, tmp_path):
    missing = tmp_path / "none" / "out"
    for name in ("out.csv", "out.parquet"):
        result = folder("export", "select s from root.a.d", str(missing.with_name(name)))
        assert result.exit_code == 1
        assert isinstance(result.exception, SystemExit)
        assert name in result.stderr
    torn = tmp_path / "in.parquet"
    table = pa.table({"Time": list(range(200_000)), "s": list(range(200_000))})
    pq.write_table(table, torn, compression="none", use_dictionary=False)
    data = bytearray(torn.read_bytes())
    data[4:2000] = bytes(1996)
    torn.write_bytes(data)
    result = folder("import-parquet", str(torn), "--device", "root.o.d")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert "in.parquet" in result.stderr


@pytest.mark.parametrize("before", [3, 10_000, 10_001])
def test_an_import_of_parquet_goes_on_where_it_was_ended(folder, tmp_path, monkeypatch, before):
    path = tmp_path / "in.parquet"
    count = 12_000
    pq.write_table(pa.table({"Time": list(range(count)), "s": list(range(count))}), path)
    Place(path, "root.p.d", keep=True).note(before)
    sizes = []
    insert = iotdb_client.Connection.insert_arrow

    def counted(self, device, table, **options):
        sizes.append(table.num_rows)
        return insert(self, device, table, **options)

    monkeypatch.setattr(iotdb_client.Connection, "insert_arrow", counted)
    done = folder("import-parquet", str(path), "--device", "root.p.d", "--resume")
    assert done.exit_code == 0, done.output
    assert all(sizes)
    assert sum(sizes) == count - before
    first = folder("--format", "csv", "-disableISO8601", "-e", "select s from root.p.d limit 1")
    assert first.stdout.splitlines()[1].startswith(f"{before},")
