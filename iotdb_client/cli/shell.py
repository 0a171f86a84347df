"""Runs statements for the shell: from -e, from a pipe, and interactively."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import TextIO, TypeVar

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from prompt_toolkit.shortcuts import CompleteStyle

from iotdb_client.cli.editing import (
    COMMANDS,
    SqlCompleter,
    SqlLexer,
    begins_statement,
    is_complete,
    wants_more,
)
from iotdb_client.cli.formats import FORMATS, FirstRows, result_lines
from iotdb_client.cli.plot import plot_lines
from iotdb_client.cli.settings import ShellOptions, change_setting
from iotdb_client.connection import Connection
from iotdb_client.errors import Error, ProgrammingError
from iotdb_client.literals import split_statements
from iotdb_client.types import TIME_COLUMN, iso_time

T = TypeVar("T")

_LEAVE = {"exit", "quit", "\\q"}
_PLOT_POINTS = 2000
_CANCEL_S = 10.0
_SCHEMA_WORDS = ("create", "delete", "drop", "set", "insert", "alter")
_HELP = """\
Enter runs a statement that is complete; while a quote or parenthesis is open, or after a second
line until a ';', it begins the next line (Alt-Enter always does). Several are separated by ';'.
Tab completes keywords, functions and paths. Ctrl-C ends a query; Ctrl-D or exit leaves.
Examples:
  show storage group
  select * from root.** limit 10
Commands:
"""


class Cancelled(Exception):
    """The user ended a statement with Ctrl-C."""


class StreamProblem(Exception):
    """The input or the output failed; the message says which, and why."""


class Shell:
    """Statements in, tables out; reconnects when the connection was closed.

    Args:
        connect: makes a connection, to a URL or folder if one is given; raises Error.
        options: how results are shown.
    """

    def __init__(
        self, connect: Callable[..., Connection], options: ShellOptions | None = None
    ) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._worker: ThreadPoolExecutor | None = None
        self._interactive = False
        self.options = options or ShellOptions()

    def open(self) -> Connection:
        """Return the connection, a new one if there is none or it was closed."""
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection

    def close(self) -> None:
        """Log out."""
        if self._connection is not None:
            self._connection.close()
        if self._worker is not None:
            self._worker.shutdown()

    # ---- statements ----

    def run(self, statement: str) -> None:
        """Run one statement and print what it gives; raises Error, or Cancelled."""
        told = change_setting(statement, self.options, self.open)
        if told is not None:
            if self.options.form == "table":
                say(f"Msg: {told}")
            return
        connection = self.open()
        start = time.perf_counter()
        with connection.cursor() as cursor:
            self._patiently(connection, lambda: cursor.execute(statement))
            if cursor.description is None:
                if self.options.form == "table":
                    say("Msg: The statement is executed successfully.")
                return
            rows = FirstRows(cursor, self.options.most_rows)
            try:
                self._show(self._lines(rows, connection))
            except KeyboardInterrupt:
                raise Cancelled from None
            if self.options.form == "table" and rows.has_more():
                say(f"Msg: there are more; -maxPRC is {self.options.most_rows}")
        if self.options.timing and self.options.form == "table":
            say(f"It costs {time.perf_counter() - start:.3f}s")

    def _lines(self, rows: FirstRows, connection: Connection) -> Iterator[str]:
        options = self.options
        return result_lines(
            rows,
            options.form,
            connection.zone,
            connection.timestamp_precision,
            numbers=options.numbers,
        )

    def _show(self, lines: Iterator[str]) -> None:
        """Print lines; what is longer than the terminal goes to a pager."""
        if not (self.options.pager and self._interactive and sys.stdout.isatty()):
            for line in lines:
                say(line)
            return
        first = list(islice(lines, shutil.get_terminal_size().lines - 1))
        if len(first) < shutil.get_terminal_size().lines - 1:
            say("\n".join(first))
            return
        os.environ.setdefault("LESS", "-SRFX")  # wide tables are cut, not folded
        click.echo_via_pager(line + "\n" for line in chain(first, lines))

    def _patiently(self, connection: Connection, run: Callable[[], T]) -> T:
        """Run something that may take long; a Ctrl-C ends it at the server.

        Raises:
            Cancelled: it was ended.
        """
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="statement")
        future = self._worker.submit(run)
        try:
            return future.result()
        except KeyboardInterrupt:
            with contextlib.suppress(Error):
                connection.cancel()
            try:
                future.result(_CANCEL_S)
            except futures.TimeoutError:
                connection.session.abandon()  # a write, or a server that does not know cancelling
            except Error:
                pass
            raise Cancelled from None

    def run_all(self, statements: Iterable[str]) -> bool:
        """Run statements until one fails; return whether all succeeded."""
        for statement in statements:
            try:
                if statement.startswith("\\"):
                    self.command(statement)
                else:
                    self.run(statement)
            except Error as error:
                print_error(error)
                return False
        return True

    def run_lines(self, lines: Iterable[str]) -> bool:
        """Run statements of a pipe until one fails, or a line says exit.

        A statement ends with a `;` at the end of a line, where the next line begins another one,
        or with the input: who writes `delete from root.a.*` and `where time < 5` on two lines does
        not mean what the first says by itself.

        Returns:
            Whether all succeeded.
        """
        held = ""
        for number, line in enumerate(lines):
            if not number:
                line = line.removeprefix("\ufeff")  # some editors begin a file with it
            if held.strip() and begins_statement(line) and not wants_more(held):
                if not self.run_all(split_statements(held)):
                    return False
                held = ""
            if not held.strip():
                if _command(line) in _LEAVE:
                    return True
                held = ""
            held += line
            if _is_ended(held):
                if not self.run_all(split_statements(held)):
                    return False
                held = ""
        return self.run_all(split_statements(held))

    # ---- commands ----

    def command(self, text: str) -> None:
        """Run a command that begins with a backslash; raises Error."""
        name, _, rest = text.strip().rstrip(";").partition(" ")
        rest = rest.strip()
        match name:
            case "\\plot" if rest:
                self.plot(rest)
            case "\\format" if rest in FORMATS:
                self.options.form = rest
            case "\\timing" | "\\pager" if rest in ("on", "off"):
                setattr(self.options, name[1:], rest == "on")
            case "\\connect":
                self._reconnect(rest)
            case "\\help":
                say(help_text())
            case _:
                known = ", ".join(f"{key} ({meaning})" for key, meaning in COMMANDS.items())
                raise ProgrammingError(f"no such command: {text}. There are {known}")

    def _reconnect(self, target: str) -> None:
        made = self._connect(target) if target else self._connect()
        if self._connection is not None:
            self._connection.close()
        self._connection = made
        say(greeting(made))

    def plot(self, what: str) -> None:
        """Draw the first column of numbers of a query, or the latest points of a series."""
        connection = self.open()
        sql = what
        if not what.lower().startswith("select"):
            device, _, measurement = what.rpartition(".")
            sql = f"select {measurement} from {device} order by time desc limit {_PLOT_POINTS}"
        with connection.cursor() as cursor:
            self._patiently(connection, lambda: cursor.execute(sql))
            description = cursor.description or ()
            kinds = [column.type_code for column in description]
            at = next(
                (
                    n
                    for n, kind in enumerate(kinds)
                    if kind in ("INT32", "INT64", "FLOAT", "DOUBLE")
                ),
                None,
            )
            if not description or description[0].name != TIME_COLUMN or at is None:
                raise ProgrammingError(
                    "to plot takes a result with Time and a column of numbers"
                    if sql == what
                    else f"{what} has no numbers: a plot is of a series of numbers, or of a query"
                )
            points = sorted((row[0], row[at]) for row in cursor if row[at] is not None)
        size = shutil.get_terminal_size()
        lines = plot_lines(
            [time_ for time_, _ in points],
            [value for _, value in points],
            lambda stamp: iso_time(stamp, connection.zone, connection.timestamp_precision),
            title=f"{description[at].name}, {len(points)} points",
            width=min(size.columns - 1, 120),
            height=min(16, max(6, size.lines - 6)),
        )
        say("\n".join(lines))

    # ---- the prompt ----

    def interact(self) -> None:
        """Read statements from a terminal until the user leaves."""
        self._interactive = True
        say(greeting(self.open()))
        completer = SqlCompleter(self._children)
        prompt: PromptSession[str] = PromptSession(
            history=_history(),
            lexer=PygmentsLexer(SqlLexer),
            completer=completer,
            complete_in_thread=True,
            complete_while_typing=False,
            complete_style=CompleteStyle.MULTI_COLUMN,
            multiline=True,
            key_bindings=_bindings(),
            prompt_continuation="     > ",
        )
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
                say(help_text())
                continue
            try:
                self.run_all(split_statements(line))
            except (Cancelled, KeyboardInterrupt):
                click.echo("\nMsg: cancelled", err=True)  # the terminal has written ^C before it
            if command.startswith(_SCHEMA_WORDS):
                completer.forget()

    def _children(self, path: str) -> list[str]:
        connection = self.open()
        with connection.cursor() as cursor:
            return [str(row[0]) for row in cursor.execute(f"show child paths {path}")]


def greeting(connection: Connection) -> str:
    """Say where one is connected."""
    info, session = connection.info, connection.session
    where = info.folder or f"{session.host}:{session.port}"
    return f"Connected to {where} as {info.user}, time zone {info.zone}. Type help for help."


def help_text() -> str:
    """Return what `help` shows."""
    return _HELP + "\n".join(f"  {name:<10} {meaning}" for name, meaning in COMMANDS.items())


def say(text: str) -> None:
    """Print a line, or lines, to stdout.

    Raises:
        StreamProblem: it can't be written.
        BrokenPipeError: who reads has seen enough.
    """
    try:
        click.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StreamProblem(f"the output can't be written: {error.strerror}") from error


def input_lines(stream: TextIO) -> Iterator[str]:
    """Yield the lines of a stream; raises StreamProblem where it can't be read."""
    try:
        yield from stream
    except OSError as error:
        raise StreamProblem(f"the input can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise StreamProblem(f"the input is not {stream.encoding}: {error}") from error


def print_error(error: Error) -> None:
    """Print an error to stderr as the family's shell does: `Msg: code: text`."""
    click.echo(f"Msg: {error}", err=True)
    if not error.definite and error.status is None:
        click.echo("Msg: the statement may have taken effect all the same", err=True)


def _is_ended(text: str) -> bool:
    """Whether nothing can go on with a text: a command, or a `;` at its end outside quotes."""
    stripped = text.strip()
    return stripped.startswith("\\") or (stripped.endswith(";") and not wants_more(stripped))


def _command(line: str) -> str:
    return line.strip().rstrip(";").strip().lower()


def _bindings() -> KeyBindings:
    """Enter runs what is complete; Alt-Enter begins a line."""
    bindings = KeyBindings()

    @bindings.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        state = buffer.complete_state
        if state is not None and state.current_completion is not None:
            buffer.complete_state = None  # takes what is chosen in the menu
        elif is_complete(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    @bindings.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return bindings


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
