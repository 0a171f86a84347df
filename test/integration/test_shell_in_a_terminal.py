"""The shell driven by keys in a terminal; captures of it go into docs/cli.md.

`IOTDB_CAPTURES=FOLDER` keeps what was on the screen.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pexpect
import pytest

import iotdb_client
from harness.process_cluster import ROOT
from iotdb_client.types import DataType

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(240)]

PROMPT = "IoTDB>"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\x1b\][^\x07]*\x07")


class Terminal:
    """One shell in a pseudo-terminal of 24 lines and 100 columns."""

    def __init__(self, *arguments: str, home: Path) -> None:
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "iotdb_client.cli.main", *arguments],
            cwd=str(ROOT),
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "TERM": "xterm",
                "HOME": str(home),
                "XDG_STATE_HOME": "",
                "PAGER": "less -SRX",
                "LESS": "",
                "PROMPT_TOOLKIT_NO_CPR": "1",
            },
            dimensions=(24, 100),
            encoding="utf-8",
            timeout=60 * float(os.environ.get("TEST_TIME_SCALE", "1")),
            # as in a terminal, also where the tests were started with `&`, which ignores Ctrl-C
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )

    def expect(self, text: str) -> str:
        """Wait for a text on the screen; return what came before it, without colours."""
        self.child.expect(text)
        return ESCAPES.sub("", self.child.before + self.child.after)

    def type(self, keys: str) -> None:
        self.child.send(keys)

    def capture(self, name: str, text: str) -> None:
        folder = os.environ.get("IOTDB_CAPTURES")
        if folder:
            (Path(folder) / f"{name}.txt").write_text(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shell") / "db"
    with iotdb_client.connect(path) as connection:
        times = list(range(0, 300_000))
        connection.insert_tablet(
            "root.factory.press", ["force"], [DataType.DOUBLE], times, [[n % 97 / 3 for n in times]]
        )
        connection.execute("create timeseries root.factory.pressure TEXT")
    return path


@pytest.fixture
def shell(folder: Path, tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal("--url", str(folder), "-tz", "UTC", home=tmp_path)
    terminal.expect(PROMPT)
    yield terminal
    if terminal.child.isalive():
        terminal.type("\x03")  # Ctrl-C drops what is typed
        terminal.expect(PROMPT)
        terminal.type("\x04")
        terminal.child.expect(pexpect.EOF)  # the folder is closed then
    terminal.child.close(force=True)


def test_completion_of_words_and_paths(shell: Terminal) -> None:
    shell.type("sel\t")
    shell.expect("ect")
    shell.type(" count(force) from root.fac\t")
    shell.expect("tory")
    shell.type(".pre\t")
    shown = shell.expect("pressure")  # in the menu, as more than one fits
    shell.capture("completion", shown)
    shell.type("\r")
    assert "count(root.factory.press.force)" in shell.expect("Total line number = 1")
    shell.expect(PROMPT)


def test_several_lines_and_history(shell: Terminal) -> None:
    shell.type("select count(force),\r")
    shell.expect(">")
    shell.type("max_value(force)\r")
    shell.expect(">")
    shell.type("from root.factory.press;\r")
    shown = shell.expect("Total line number = 1")
    assert "300000" in shown
    shell.expect(PROMPT)
    shell.capture("lines", shown)
    shell.type("\x1b[A")  # the arrow up brings it back, whole
    shell.expect(r"root\.factory\.press")
    shell.type("\r")
    assert "300000" in shell.expect("Total line number = 1")
    shell.expect(PROMPT)


def test_long_results_are_paged(shell: Terminal) -> None:
    shell.type("select force from root.factory.press limit 500\r")
    shell.expect(":")
    shell.capture("paging", shell.expect(r"00:00:00.01\d"))
    shell.type("G")
    shell.expect("Total line number = 500")
    shell.type("q")
    shell.expect(PROMPT)


def test_ctrl_c_ends_a_query_and_the_shell_lives_on(shell: Terminal) -> None:
    shell.type("\\pager off\r")
    shell.expect(PROMPT)
    shell.type("select sin(force) + cos(force) as wave from root.factory.press\r")
    shell.expect("1970-01-01T00:00:00.00")  # rows are coming, and will for a while
    shell.child.sendintr()
    shown = shell.expect("\r\nMsg: cancelled\r\n")  # a line of its own
    shell.expect(PROMPT)
    shell.capture("ctrl-c", shown[-300:])
    shell.type("select count(force) from root.factory.press\r")
    assert "300000" in shell.expect("Total line number = 1")


def test_plot(shell: Terminal) -> None:
    shell.type("\\plot select force from root.factory.press limit 300\r")
    shown = shell.expect("00:00:00.299Z")
    assert "force, 300 points" in shown
    assert "⢀" in shown or "⡠" in shown or "⠁" in shown
    shell.capture("plot", shown)


def test_import_shows_its_progress(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    path.write_text("time,v\n" + "".join(f"{n},{n / 7:.3f}\n" for n in range(200_000)))
    terminal = Terminal(
        "--url", str(folder), "import-csv", str(path), "--device", "root.imported.d",
        "--time-format", "ms", home=tmp_path,
    )  # fmt: skip
    shown = terminal.expect(r"\[#+ *\] +\d+%")
    shown += terminal.expect("200000 rows")
    terminal.child.expect(pexpect.EOF)
    assert "100%" in shown
    terminal.capture("import", shown.replace("\r", "\n"))
    terminal.child.close()
    assert terminal.child.exitstatus == 0


def test_ctrl_d_leaves(shell: Terminal) -> None:
    shell.type("\x04")
    shell.child.expect(pexpect.EOF)
    shell.child.close()
    assert shell.child.exitstatus == 0
