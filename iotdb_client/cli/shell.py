"""Runs statements for the shell: from -e, from a pipe, and interactively."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from iotdb_client.cli.tables import table_lines
from iotdb_client.connection import Connection
from iotdb_client.errors import Error
from iotdb_client.literals import split_statements

_LEAVE = {"exit", "quit"}
_HELP = """\
One statement a line, a ';' at its end may be left out; several are separated by ';'.
  help           this text
  exit, quit     leave; so does Ctrl-D
Examples:
  show storage group
  select * from root.** limit 10"""


class Shell:
    """Statements in, tables out; reconnects when the connection was lost.

    Args:
        connect: makes a connection; raises Error.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection: Connection | None = None

    def open(self) -> Connection:
        """Return the connection, a new one if there is none or it was lost."""
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection

    def close(self) -> None:
        """Log out."""
        if self._connection is not None:
            self._connection.close()

    def run(self, statement: str) -> None:
        """Run one statement and print what it gives; raises Error."""
        connection = self.open()
        start = time.perf_counter()
        with connection.cursor() as cursor:
            cursor.execute(statement)
            if cursor.description is None:
                click.echo("Msg: The statement is executed successfully.")
                return
            for line in table_lines(cursor, connection.zone, connection.timestamp_precision):
                click.echo(line)
        click.echo(f"It costs {time.perf_counter() - start:.3f}s")

    def run_all(self, statements: Iterable[str]) -> bool:
        """Run statements until one fails; return whether all succeeded."""
        for statement in statements:
            try:
                self.run(statement)
            except Error as error:
                print_error(error)
                return False
        return True

    def run_lines(self, lines: Iterable[str]) -> bool:
        """Run lines of a pipe until one fails or says exit; return whether all succeeded."""
        for line in lines:
            if _command(line) in _LEAVE:
                break
            if not self.run_all(split_statements(line)):
                return False
        return True

    def interact(self) -> None:
        """Read statements from a terminal until the user leaves."""
        connection = self.open()
        session = connection.session
        click.echo(
            f"Connected to {session.host}:{session.port} as {connection.info.user}, "
            f"time zone {connection.info.zone}. Type help for help."
        )
        prompt: PromptSession[str] = PromptSession(history=_history())
        while True:
            try:
                line = prompt.prompt("IoTDB> ")
            except KeyboardInterrupt:
                continue  # drops the line, as shells do
            except EOFError:
                break
            command = _command(line)
            if command in _LEAVE:
                break
            if command == "help":
                click.echo(_HELP)
                continue
            try:
                self.run_all(split_statements(line))
            except KeyboardInterrupt:
                click.echo("Msg: cancelled; the connection is opened anew", err=True)


def print_error(error: Error) -> None:
    """Print an error to stderr as the family's shell does: `Msg: code: text`."""
    click.echo(f"Msg: {error}", err=True)
    if not error.definite and error.status is None:
        click.echo("Msg: the statement may have taken effect all the same", err=True)


def _command(line: str) -> str:
    return line.strip().rstrip(";").strip().lower()


def _history() -> History:
    """Keep history below XDG_STATE_HOME or HOME; only in memory where there is neither."""
    state = os.environ.get("XDG_STATE_HOME", "")
    home = os.environ.get("HOME", "")
    if state:
        folder = Path(state)
    elif home:
        folder = Path(home) / ".local" / "state"
    else:
        return InMemoryHistory()
    try:
        folder = folder / "iotdb-cli"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "history"
        path.touch(mode=0o600)
    except OSError as error:
        click.echo(f"no history is kept: {error}", err=True)
        return InMemoryHistory()
    return FileHistory(str(path))


def stdin_is_terminal() -> bool:
    """Whether a person types the statements."""
    return sys.stdin is not None and sys.stdin.isatty()
