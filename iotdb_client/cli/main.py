"""Commands of `sbin/start-cli.sh` (and `iotdb-cli`): the shell, `-e`, imports and exports.

Exit codes: 0 all succeeded, 1 a statement or transfer failed, 2 wrong usage, 130 ended by Ctrl-C.
"""

from __future__ import annotations

if __name__ == "__main__":
    import os
    import signal

    # Ctrl-C while the rest is loaded: nothing was begun, so there is nothing to undo or to say.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # start-cli.sh held it back

import logging
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from iotdb_client.cli.csv_import import CsvImport, ImportOptions, ImportProblem
from iotdb_client.cli.csv_types import time_parser
from iotdb_client.cli.formats import FORMATS
from iotdb_client.cli.progress import ProgressBar
from iotdb_client.cli.settings import ShellOptions
from iotdb_client.cli.shell import (
    Cancelled,
    Shell,
    StreamProblem,
    input_lines,
    print_error,
    say,
    stdin_is_terminal,
)
from iotdb_client.cli.transfer import (
    Place,
    TransferProblem,
    export_result,
    import_parquet,
    whole_file,
)
from iotdb_client.connection import Connection, connect
from iotdb_client.conninfo import parse_zone
from iotdb_client.errors import Error, ProgrammingError
from iotdb_client.literals import split_statements

_DEFAULTS: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 6667,
    "user": "root",
    "password": "root",
    "zone": None,
    "timeout": 60.0,
    "url": None,
    "compact": None,
}
_INTERRUPTED = 130


def _connection_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say where to connect; they may stand before or after a sub-command."""
    for option in (
        click.option(
            "--timeout", "-timeout", type=float, help="Seconds for a statement.  [default: 60]"
        ),
        click.option("-tz", "--zone", help="Time zone of dates.  [default: this machine's]"),
        click.option("-pw", "--password", help="[default: root]"),
        click.option("-u", "--user", help="[default: root]"),
        click.option("-p", "--port", type=click.IntRange(1, 65535), help="[default: 6667]"),
        click.option("-h", "--host", help="[default: 127.0.0.1]"),
        click.option("-c", "compact", is_flag=True, default=None, help="Compact protocol."),
        click.option(
            "--url", help="In place of -h and -p: h1:p1,h2:p2, a JDBC URL, or a folder (./db)."
        ),
    ):
        command = option(command)
    return command


def _connector(context: click.Context, given: dict[str, Any]) -> Callable[..., Connection]:
    """Return what connects; options of the sub-command win over those before it."""
    outer = context.obj or {}
    chosen = {
        name: next(
            (value for value in (given.get(name), outer.get(name)) if value is not None), default
        )
        for name, default in _DEFAULTS.items()
    }
    host = chosen["host"]
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    usual = chosen["url"] or f"{host}:{chosen['port']}"
    if chosen["compact"] and "://" not in usual:
        usual = f"jdbc:iotdb://{usual}/?rpc_compress=true"

    def open_connection(target: str = "") -> Connection:
        return connect(
            target or usual,
            chosen["user"],
            chosen["password"],
            timeout_s=chosen["timeout"],
            zone=chosen["zone"],
        )

    return open_connection


class _Commands(click.Group):
    """Commands whose files and streams may fail: what failed is told in a line."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        """Run the command that was asked for."""
        try:
            if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                # from here on there is what is to be ended in order
                signal.signal(signal.SIGINT, signal.default_int_handler)
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)
        except BrokenPipeError:
            raise  # who reads has seen enough: click ends the process without a word
        except StreamProblem as problem:
            click.echo(f"Msg: {problem}", err=True)
        except OSError as error:
            what = "" if error.filename is None else f"{error.filename}: "
            click.echo(f"Msg: {what}{error.strerror or error}", err=True)
        ctx.exit(1)


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["--help", "-help"]},
)
@_connection_options
@click.option("-e", "statements", help="Run these statements, separated by ';', and leave.")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="table", help="How results are shown."
)
@click.option("-disableISO8601", "numbers", is_flag=True, help="Show times as numbers.")
@click.option("-maxPRC", "most_rows", type=click.IntRange(1), help="Show that many rows at most.")
@click.option("--timing/--no-timing", default=True, help="Say how long a statement took.")
@click.option("--pager/--no-pager", default=True, help="Long results through $PAGER.")
@click.pass_context
def main(
    context: click.Context,
    /,
    statements: str | None,
    *,
    form: str,
    numbers: bool,
    most_rows: int | None,
    timing: bool,
    pager: bool,
    **given: Any,  # noqa: ANN401
) -> None:
    """Talk SQL to a server: interactively, from a pipe, or with -e."""
    logging.getLogger("thrift").setLevel(logging.CRITICAL)  # errors are told once, by us
    if context.invoked_subcommand is not None:
        if statements is not None:
            raise click.UsageError("-e and a sub-command exclude each other")
        context.obj = given
        return
    shell = Shell(_connector(context, given), ShellOptions(form, numbers, timing, pager, most_rows))
    code = 1
    try:
        shell.open()
        if statements is not None:
            succeeded = shell.run_all(split_statements(statements))
        elif stdin_is_terminal():
            shell.interact()
            succeeded = True
        else:
            succeeded = shell.run_lines(input_lines(sys.stdin))
        code = 0 if succeeded else 1
    except Error as error:
        print_error(error)
    except (Cancelled, KeyboardInterrupt):
        click.echo("Msg: cancelled", err=True)
        code = _INTERRUPTED
    finally:
        shell.close()
    if code:
        context.exit(code)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else text.split(",")


@main.command("import-csv")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--device", required=True, help="Device to write to, e.g. root.factory.m1.")
@click.option("--time-column", help="Name of the column of times.  [default: time…, or the first]")
@click.option(
    "--time-format",
    default="iso",
    show_default=True,
    help="iso, s, ms, us, ns, or a format such as '%d.%m.%Y %H:%M'.",
)
@click.option("--time-zone", help="Zone of times without offset.  [default: as --zone]")
@click.option("--measurements", help="Names for the other columns: a,b,…; empty: leave it out.")
@click.option("--types", help="BOOLEAN, INT32, INT64, FLOAT, DOUBLE or TEXT of each measurement.")
@click.option("--batch", default=1000, show_default=True, type=click.IntRange(1, 1_000_000))
@click.option("--aligned", is_flag=True, help="Create the device's series aligned.")
@click.option("--delimiter", default=",", show_default=True, help="One character.")
@click.option("--progress", is_flag=True, help="Show progress even if stderr is no terminal.")
@click.option("--resume", is_flag=True, help="Keep the place in FILE.import, and go on from there.")
@_connection_options
@click.pass_context
def import_csv(
    context: click.Context,
    /,
    file: Path,
    *,
    device: str,
    time_column: str | None,
    time_format: str,
    time_zone: str | None,
    measurements: str | None,
    types: str | None,
    batch: int,
    aligned: bool,
    delimiter: str,
    progress: bool,
    resume: bool,
    **given: Any,  # noqa: ANN401
) -> None:
    """Write the rows of FILE (CSV with a header line) to one device."""
    if len(delimiter) != 1:
        raise click.BadParameter("is one character", param_hint="--delimiter")
    options = ImportOptions(
        device=device,
        time_column=time_column,
        measurements=_names(measurements),
        types=_names(types),
        batch_rows=batch,
        aligned=aligned,
        delimiter=delimiter,
    )
    try:
        with (
            _connector(context, given)() as connection,
            whole_file(file, resume=resume) as source,
        ):
            succeeded = _import(
                connection,
                file,
                source,
                options,
                time_format=time_format,
                time_zone=time_zone,
                show_progress=progress,
                resume=resume,
            )
    except Error as error:
        print_error(error)
        succeeded = False
    except TransferProblem as problem:
        click.echo(f"Msg: {file}: {problem}", err=True)
        succeeded = False
    except KeyboardInterrupt:
        _interrupted(context, "--resume goes on from here" if resume else "")
    if not succeeded:
        context.exit(1)


def _interrupted(context: click.Context, hint: str) -> None:
    click.echo(f"\nMsg: ended{': ' + hint if hint else ''}", err=True)
    context.exit(_INTERRUPTED)


def _import(
    connection: Connection,
    file: Path,
    source: Path,
    options: ImportOptions,
    *,
    time_format: str,
    time_zone: str | None,
    show_progress: bool,
    resume: bool,
) -> bool:
    zone = connection.zone if time_zone is None else parse_zone(time_zone)
    try:
        parse_time = time_parser(time_format, zone, connection.timestamp_precision)
    except ValueError as error:
        raise ProgrammingError(str(error)) from error
    job = CsvImport(source, options, parse_time)
    bar = ProgressBar(source.stat().st_size, sys.stderr)
    shown = show_progress or sys.stderr.isatty()
    start = time.perf_counter()
    try:
        place = Place(source, options.device, keep=resume)
        done = job.run(connection.session, bar.update if shown else lambda *_: None, place)
    except (ImportProblem, TransferProblem) as problem:
        bar.end()
        click.echo(f"Msg: {file}: {problem}", err=True)
        click.echo(f"{job.rows} rows were written to {options.device} before that.", err=True)
        return False
    bar.end()
    columns = ", ".join(f"{name} {kind.name}" for name, kind in done.types.items())
    what = f"{done.rows} rows ({done.points} points) written"
    if done.repeated:
        what = f"{done.rows} rows ({done.points} points) read, {done.rows - done.repeated} written"
    say(
        f"{what} to {options.device}"
        f"{f' after the {job.skipped} of before' if job.skipped else ''} in "
        f"{time.perf_counter() - start:.2f}s: {columns or 'no column has a value'}"
    )
    if done.repeated:
        say(
            f"{done.repeated} rows have the time of another row of the file: where both have a "
            "value, that of the later row stays."
        )
    return True


@main.command("import-parquet")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--device", required=True, help="Device to write to, e.g. root.factory.m1.")
@click.option("--time-column", default="Time", show_default=True, help="Timestamps or integers.")
@click.option("--aligned", is_flag=True, help="Create the device's series aligned.")
@click.option("--progress", is_flag=True, help="Show progress even if stderr is no terminal.")
@click.option("--resume", is_flag=True, help="Keep the place in FILE.import, and go on from there.")
@_connection_options
@click.pass_context
def import_parquet_command(
    context: click.Context,
    /,
    file: Path,
    *,
    device: str,
    time_column: str,
    aligned: bool,
    progress: bool,
    resume: bool,
    **given: Any,  # noqa: ANN401
) -> None:
    """Write the rows of FILE (Parquet; needs the extra `arrow`) to one device."""
    shown = progress or sys.stderr.isatty()
    bar = ProgressBar(100, sys.stderr)
    start = time.perf_counter()
    try:
        with (
            _connector(context, given)() as connection,
            whole_file(file, resume=resume) as source,
        ):
            rows = import_parquet(
                connection,
                source,
                device,
                time_column=time_column,
                aligned=aligned,
                place=Place(source, device, keep=resume),
                progress=lambda done, of: bar.update(100 * done // of, done) if shown else None,
            )
    except (Error, TransferProblem) as problem:
        bar.end()
        click.echo(f"Msg: {file}: {problem}", err=True)
        context.exit(1)
    except KeyboardInterrupt:
        _interrupted(context, "--resume goes on from here" if resume else "")
    bar.end()
    say(f"{rows} rows written to {device} in {time.perf_counter() - start:.2f}s")


@main.command("export")
@click.argument("query")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--resume", is_flag=True, help="Go on with FILE.part of a run that was ended.")
@click.option("-disableISO8601", "numbers", is_flag=True, help="Write times as numbers.")
@click.option("--progress", is_flag=True, help="Show progress even if stderr is no terminal.")
@_connection_options
@click.pass_context
def export_command(
    context: click.Context,
    /,
    query: str,
    file: Path,
    *,
    resume: bool,
    numbers: bool,
    progress: bool,
    **given: Any,  # noqa: ANN401
) -> None:
    """Write the result of QUERY to FILE: Parquet if it is named *.parquet, else CSV."""
    shown = progress or sys.stderr.isatty()
    start = time.perf_counter()

    def tell(rows: int) -> None:
        if shown:
            click.echo(f"\r{rows:,} rows", err=True, nl=False)

    try:
        with _connector(context, given)() as connection:
            rows = export_result(
                connection, query, file, resume=resume, numbers=numbers, progress=tell
            )
    except (Error, TransferProblem) as problem:
        click.echo(f"Msg: {problem}", err=True)
        context.exit(1)
    except KeyboardInterrupt:
        _interrupted(context, "--resume goes on from here")
    if shown:
        click.echo(err=True)
    done = f"{rows} rows written to {file} in {time.perf_counter() - start:.2f}s"
    if file.exists() and not file.is_file():  # stdout may be the file
        click.echo(done, err=True)
    else:
        say(done)


if __name__ == "__main__":
    main(prog_name="start-cli.sh")
