from __future__ import annotations

import struct

import pytest
from click.testing import CliRunner
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from cluster.rpc.gen.client.ttypes import TSStatus
from harness.fake_database import Table
from iotdb_client.cli import shell
from iotdb_client.cli.main import main
from iotdb_client.connection import connect


@pytest.fixture
def run(port):
    def invoke(*arguments, stdin=""):
        return CliRunner().invoke(
            main, ["-h", "127.0.0.1", "-p", str(port), "-tz", "UTC", *arguments], input=stdin
        )

    return invoke


def table_of(result):
    """The output without the line that tells the time taken."""
    lines = result.stdout.splitlines()
    assert lines[-1].startswith("It costs ")
    return lines[:-1]


def test_a_table(database, run):
    database.results["select"] = Table(
        ["root.d.s", "t", "b"],
        ["FLOAT", "TEXT", "BOOLEAN"],
        [(0.1, "温度", True), (None, "a\nb", None)],
        times=[1386018900000, -1],
    )
    result = run("-e", "select")
    assert result.exit_code == 0, result.output
    assert table_of(result) == [
        "+------------------------+--------+----+----+",
        "|                    Time|root.d.s|   t|   b|",
        "+------------------------+--------+----+----+",
        "|2013-12-02T21:15:00.000Z|     0.1|温度|true|",
        "|1969-12-31T23:59:59.999Z|    null|a\\nb|null|",
        "+------------------------+--------+----+----+",
        "Total line number = 2",
    ]


def test_time_is_shown_in_the_zone_and_precision(database, run):
    database.precision = "us"
    database.results["q"] = Table(["s"], ["INT32"], [(1,), (2,)], times=[1, 2**62])
    lines = run("-tz", "+08:00", "-e", "q").stdout.splitlines()
    assert "|1970-01-01T08:00:00.000001+08:00|1|" in lines
    assert "|             4611686018427387904|2|" in lines


def test_an_empty_result(database, run):
    database.results["show"] = Table(["storage group"], ["TEXT"], [])
    assert table_of(run("-e", "show;")) == [
        "+-------------+",
        "|storage group|",
        "+-------------+",
        "+-------------+",
        "Empty set.",
    ]


def test_a_later_block_may_be_wider(database, run):
    rows = [("x",)] * 1000 + [("wide",)]
    database.results["q"] = Table(["a"], ["TEXT"], rows)
    lines = table_of(run("-e", "q"))
    assert lines[:3] == ["+-+", "|a|", "+-+"]
    assert lines[1003:] == [
        "+----+",
        "|   a|",
        "+----+",
        "|wide|",
        "+----+",
        "Total line number = 1001",
    ]


def test_several_statements(database, run):
    result = run("-e", "insert ';' ; insert \"a;b\";")
    assert result.exit_code == 0
    assert database.statements == ["insert ';'", 'insert "a;b"']
    assert result.stdout.count("executed successfully") == 2


def test_errors_go_to_stderr_and_end_the_run(database, run):
    database.results["bad"] = TSStatus(code=401, message="line 1:0 mismatched input")
    result = run("-e", "bad; later")
    assert result.exit_code == 1
    assert result.stderr == "Msg: 401: line 1:0 mismatched input\n"
    assert result.stdout == ""
    assert database.statements == ["bad"]


def test_two_letter_password_option(database, run):
    result = run("-u", "root", "-pw", "wrong", "-e", "x")
    assert result.exit_code == 1
    assert "600: Authentication failed." in result.stderr


def test_lines_from_a_pipe(database, run):
    result = run(stdin="one; two;\n\nthree\nexit\nfour\n")
    assert result.exit_code == 0
    assert database.statements == ["one", "two", "three"]


def test_a_file_of_statements_may_begin_with_a_byte_order_mark(database, run):
    assert run(stdin="\ufeffone\n").exit_code == 0
    assert database.statements == ["one"]


def test_a_pipe_stops_at_the_first_error(database, run):
    database.results["show bad"] = TSStatus(code=500, message="oh")
    result = run(stdin="show bad\nshow later\n")
    assert (result.exit_code, database.statements) == (1, ["show bad"])


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("delete from root.a.*\nwhere time < 5;\n", ["delete from root.a.*\nwhere time < 5"]),
        ("delete from root.a.*\nwhere time < 5", ["delete from root.a.*\nwhere time < 5"]),
        ("select a\n\nfrom root.d\nshow devices\n", ["select a\n\nfrom root.d", "show devices"]),
        ("select\ncount(a),\ncount(b) from root.d;", ["select\ncount(a),\ncount(b) from root.d"]),
        (
            "insert into root.d(time, t) values (1, 'a;\nshow x;\n');\nshow devices",
            ["insert into root.d(time, t) values (1, 'a;\nshow x;\n')", "show devices"],
        ),
        ("show one; show two\nlimit 1\nexit\nshow three", ["show one", "show two\nlimit 1"]),
        ("show one\n  \\timing off\nshow two", ["show one", "show two"]),
        (
            "create cq c begin\nselect 1 into a\nend\nDROP cq c",
            ["create cq c begin\nselect 1 into a\nend", "DROP cq c"],
        ),
    ],
)
def test_a_statement_of_several_lines_in_a_pipe(database, run, text, statements):
    result = run(stdin=text)
    assert result.exit_code == 0, result.stderr
    assert database.statements == statements


def test_options_of_the_familys_shell(database, run):
    database.results["q"] = Table(["a"], ["INT64"], [(n,) for n in range(5000)], times=range(5000))
    assert "Usage:" in run("-help").stdout
    lines = run("-timeout", "5", "-maxPRC", "2", "-e", "q").stdout.splitlines()
    assert lines[3:-1] == [
        "|1970-01-01T00:00:00.000Z|0|",
        "|1970-01-01T00:00:00.001Z|1|",
        lines[0],
        "Total line number = 2",
        "Msg: there are more; -maxPRC is 2",
    ]
    csv = run("-maxPRC", "2", "--format", "csv", "-e", "q")
    assert len(csv.stdout.splitlines()) == 3
    assert "there are more" not in run("-maxPRC", "5000", "-e", "q").output
    assert run("-maxPRC", "0", "-e", "q").exit_code == 2


def test_an_unreachable_server():
    result = CliRunner().invoke(main, ["-p", "1", "-e", "x"])
    assert result.exit_code == 1
    assert "no connection to 127.0.0.1:1" in result.stderr
    assert "sbin/start-node.sh starts one" in result.stderr


def test_history_goes_to_xdg_or_home_or_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    shell._history()
    path = tmp_path / "home/.local/state/iotdb-cli/history"
    assert path.stat().st_mode & 0o077 == 0
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    shell._history()
    assert (tmp_path / "state/iotdb-cli/history").exists()
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "")
    assert isinstance(shell._history(), shell.InMemoryHistory)


# ---- import-csv ----


@pytest.fixture
def csv_file(tmp_path):
    def write(text, name="data.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def cells(sent):
    times = struct.unpack(f">{sent.size}q", sent.timestamps)
    return list(times), sent.measurements, sent.types


def test_a_file_like_the_real_ones(database, run, csv_file):
    path = csv_file("timestamp,value\n2013-12-02 21:20:00,74.9\n2013-12-02 21:15:00,73\n")
    result = run("import-csv", path, "--device", "root.factory.m1")
    assert result.exit_code == 0, result.output
    (sent,) = database.tablets
    assert sent.prefixPath == "root.factory.m1"
    assert cells(sent) == ([1386018900000, 1386019200000], ["value"], [4])
    assert struct.unpack(">2d", sent.values) == (73.0, 74.9)
    assert "2 rows (2 points) written to root.factory.m1" in result.stdout
    assert "value DOUBLE" in result.stdout


def test_all_types_nulls_and_columns_left_out(database, run, csv_file):
    path = csv_file(
        'a,when,b,c,d,e,empty\n1,0,true,x,1.5,skip,\n,1,,,,skip,\n3,2,false,"y,z",2,skip,\n'
    )
    result = run(
        "import-csv", path, "--device", "root.d", "--time-column", "when", "--time-format", "s",
        "--measurements", "i,b,t,d,,", "--aligned",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (sent,) = database.tablets
    assert cells(sent) == ([0, 1000, 2000], ["i", "b", "t", "d"], [2, 0, 5, 4])
    assert sent.isAligned
    assert sent.values.endswith(bytes.fromhex("01020102 01020102".replace(" ", "")))
    assert "3 rows (8 points)" in result.stdout


def test_a_quoted_empty_cell_is_a_text_only_among_texts(database, run, csv_file):
    path = csv_file('time,n,t,e\n0,"1","a",""\n1,"","",\n2,,,""\n')
    result = run("import-csv", path, "--device", "root.d")
    assert result.exit_code == 0, result.output
    (sent,) = database.tablets
    assert (sent.measurements, sent.types) == (["n", "t", "e"], [2, 5, 5])
    assert "5 points" in result.stdout


def test_options_may_stand_after_the_sub_command(database, port, csv_file):
    path = csv_file("t,v\n0,1\n")
    result = CliRunner().invoke(
        main, ["import-csv", path, "--device", "root.d", "-h", "127.0.0.1", "-p", str(port)]
    )
    assert result.exit_code == 0, result.output
    assert len(database.tablets) == 1


def test_batches_and_given_types(database, run, csv_file):
    path = csv_file("time,v\n" + "".join(f"{n},{n}\n" for n in range(25)))
    result = run("import-csv", path, "--device", "d", "--batch", "10", "--types", "float")
    assert result.exit_code == 0, result.output
    assert [sent.size for sent in database.tablets] == [10, 10, 5]
    assert {tuple(sent.types) for sent in database.tablets} == {(3,)}


def test_what_was_exported_can_be_imported(database, run, csv_file, tmp_path):
    """Columns of results are named by the full paths of their series."""
    database.results["select"] = Table(
        ["root.d.s", "root.d.`a.b`", "root.d.t"],
        ["FLOAT", "TEXT", "BOOLEAN"],
        [(0.5, "x", True), (None, None, False)],
        times=[1, 2],
    )
    assert run("export", "select", str(tmp_path / "out.csv")).exit_code == 0
    result = run("import-csv", str(tmp_path / "out.csv"), "--device", "root.e")
    assert result.exit_code == 0, result.output
    [sent] = database.tablets
    assert (sent.prefixPath, sent.measurements, sent.size) == ("root.e", ["s", "`a.b`", "t"], 2)
    twice = csv_file("Time,root.a.s,root.b.s\n1,2,3\n")
    result = run("import-csv", twice, "--device", "root.e")
    assert result.exit_code == 1
    assert "root.a.s and root.b.s must differ: both are s" in result.stderr


def test_another_delimiter_is_guessed_at(database, run, csv_file):
    path = csv_file("time;v\n1;1\n")
    result = run("import-csv", path, "--device", "root.d")
    assert result.exit_code == 1
    assert "one column only: is ',' between" in result.stderr
    assert run("import-csv", path, "--device", "root.d", "--delimiter", ";").exit_code == 0


@pytest.mark.parametrize("batch", ["2", "100"])
def test_rows_of_one_time_are_told(database, run, csv_file, batch):
    path = csv_file("time,v\n1,1\n2,2\n1,3\n1,4\n3,5\n")
    result = run("import-csv", path, "--device", "root.d", "--batch", batch)
    assert result.exit_code == 0, result.output
    assert "5 rows (5 points) read, 3 written to root.d" in result.stdout
    assert "2 rows have the time of another row" in result.stdout


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("yesterday,1", "line 6, column time: 'yesterday'"),
        ("5", "line 6: 1 cells, 2 columns"),
        ("5,6,7", "line 6: 3 cells, 2 columns"),
        ("5,x", "line 6, column v: 'x' is not a whole number"),
    ],
)
def test_a_bad_row_stops_with_its_line_and_what_was_written(database, run, csv_file, line, message):
    path = csv_file(f"time,v\n0,0\n\n1,1\n2,2\n{line}\n3,3\n")
    result = run("import-csv", path, "--device", "d", "--batch", "2", "--types", "INT64")
    assert result.exit_code == 1
    assert message in result.stderr
    assert "2 rows were written to d before that" in result.stderr
    assert [sent.size for sent in database.tablets] == [2]


@pytest.mark.parametrize(("options", "cell"), [((), "1e999"), (("--types", "FLOAT"), "1e39")])
def test_a_number_that_would_become_infinite_is_told_with_its_place(
    database, run, csv_file, options, cell
):
    result = run(
        "import-csv", csv_file(f"time,v\n0,1.5\n1,inf\n2,{cell}\n"), "--device", "d", *options
    )
    assert result.exit_code == 1
    assert f"line 4, column v: {cell} is outside -" in result.stderr
    assert "0 rows were written" in result.stderr
    assert database.tablets == []


def test_a_refusal_of_the_server(database, run, csv_file):
    database.tablet_status = TSStatus(code=319, message="aligned")
    result = run("import-csv", csv_file("time,v\n0,0\n"), "--device", "d")
    assert result.exit_code == 1
    assert "319: aligned" in result.stderr
    assert "0 rows were written" in result.stderr


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", [], "no header"),
        ("time,,v\n0,1,2\n", [], "no name"),
        ("time,v,v\n0,1,2\n", [], "differ"),
        ("time,v\n0,1\n", ["--time-column", "when"], "no column 'when'"),
        ("time,v\n0,1\n", ["--measurements", "a,b"], "2 measurements for 1 columns"),
        ("time,v\n0,1\n", ["--types", "number"], "'number' is not a type"),
        ("time,v\n0,1\n", ["--time-format", "x"], "no time format"),
        ("time,v\n0,1\n", ["--time-zone", "Mars"], "time zone"),
        ('time,v\n0,"a\n', [], "unexpected end of data"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    database, run, csv_file, text, options, message
):
    result = run("import-csv", csv_file(text), "--device", "d", *options)
    assert result.exit_code == 1
    assert message in result.stderr
    assert database.tablets == []


def test_progress_is_shown_on_demand(database, run, csv_file):
    path = csv_file("time,v\n" + "".join(f"{n},{n}\n" for n in range(5000)))
    quiet = run("import-csv", path, "--device", "d")
    assert "%" not in quiet.stderr
    shown = run("import-csv", path, "--device", "d", "--progress")
    assert "100%  5,000 rows" in shown.stderr


def test_a_file_that_is_not_utf8(database, run, tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes(b"time,v\n0,\xff\n")
    result = run("import-csv", str(path), "--device", "d")
    assert result.exit_code == 1
    assert "not UTF-8" in result.stderr


def test_a_batch_without_values_is_not_sent(database, run, csv_file):
    path = csv_file("time,v,w\n0,,\n1,,\n2,1,\n")
    result = run("import-csv", path, "--device", "d", "--batch", "2")
    assert result.exit_code == 0, result.output
    assert [sent.size for sent in database.tablets] == [1]
    assert "3 rows (1 points)" in result.stdout


def test_the_interactive_shell(database, port, capsys, monkeypatch):
    monkeypatch.setenv("HOME", "")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    database.results["bad"] = TSStatus(code=401, message="no")
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text("one; two;\nhelp\nbad\nthree\nEXIT ;\nfour\n")
        terminal = shell.Shell(lambda: connect(f"127.0.0.1:{port}", zone="UTC"))
        terminal.interact()
        terminal.close()
    assert database.statements == ["one", "two", "bad", "three"]
    output = capsys.readouterr()
    assert "time zone UTC" in output.out
    assert "Ctrl-D" in output.out
    assert "Msg: 401: no" in output.err


def test_the_shell_reconnects(database, port):
    terminal = shell.Shell(lambda: connect(f"127.0.0.1:{port}", zone="UTC"))
    assert terminal.run_all(["one"])
    terminal.open().close()
    assert terminal.run_all(["two"])
    assert len(database.logins) == 2
    terminal.close()
