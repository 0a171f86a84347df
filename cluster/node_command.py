"""The command that runs a node: options, logging, readiness, exit code.

What a node consists of is imported when it is to run here, which takes a third of a second: the
process that only starts another one (`-d`) does without. That, and all else that takes a
processor for long and needs no other node, comes before the node is heard of: what others send as
soon as they hear it, a snapshot above all, should not wait for the interpreter's lock.
"""

from __future__ import annotations

if __name__ == "__main__":
    import os
    import signal

    # Ctrl-C while the rest is loaded: nothing was begun, so there is nothing to undo or to say.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # start-node.sh held it back

import errno
import gc
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from cluster.allocator import tune_allocator
from cluster.config.settings import ConfigError, NodeLocal, Settings
from cluster.errors import ListenError
from cluster.open_files import room_for_connections
from cluster.output_file import RotatedOutput
from cluster.server import node_control
from cluster.stop_signals import StopSignals
from cluster.threads import ThreadRegistry

if TYPE_CHECKING:
    from cluster.main import ClusterMain

logger = logging.getLogger(__name__)

_SWITCH_INTERVAL_S = 0.00025
"""A request passes through several threads; behind a busy flush thread each hand-over would take
CPython's default of 5 ms. (Tablets' p99 beside a flush: docs/notes/ingestion.md.)"""
_YOUNG_OBJECTS = 5000
"""So many new containers are kept until those are looked at for cycles; CPython's default is 700,
and costs a row on three nodes 4 us and more, in place of 1."""


def _set_up_logging(level: str, settings: NodeLocal) -> None:
    output = RotatedOutput(
        settings.data_dir / node_control.LOG_FILE,
        max_bytes=settings.node_log_bytes,
        older_files=settings.node_log_older_files,
    )
    logging.basicConfig(
        level=level,
        handlers=[output],
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )


def _report_ready(line: str, ready_fd: int | None) -> None:
    if ready_fd is not None:
        with os.fdopen(ready_fd, "w") as pipe:
            pipe.write(line + "\n")


@click.command(context_settings={"help_option_names": ["--help"]})
@click.option(
    "-c",
    "conf_dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Folder with iotdb-cluster.properties.",
)
@click.option("-D", "pairs", multiple=True, metavar="key=value", help="Override a property.")
@click.option("-d", "daemon", is_flag=True, help="Run in the background; return once ready.")
@click.option("--ready-fd", type=int, default=None, hidden=True)
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    default="INFO",
    show_default=True,
)
def main(
    conf_dir: Path | None,
    pairs: tuple[str, ...],
    daemon: bool,
    ready_fd: int | None,
    log_level: str,
) -> None:
    """Run one node of the cluster until SIGTERM or Ctrl-C."""
    if daemon:
        argv = [argument for argument in sys.argv[1:] if argument != "-d"]
        sys.exit(node_control.start_daemon(argv))
    try:
        node_control.raise_interrupts()
        code = run_node(conf_dir, pairs, ready_fd, log_level, sys.stdout)
    except KeyboardInterrupt:
        code = node_control.INTERRUPTED
    sys.exit(code)


def run_node(
    conf_dir: Path | None,
    pairs: Sequence[str],
    ready_fd: int | None,
    log_level: str,
    out: TextIO,
) -> int:
    """Start a node, report readiness, and run it until it is stopped; return the exit code."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        settings = Settings.load(conf_dir, node_control.parse_overrides(pairs))
        _set_up_logging(log_level, settings.node)
        if settings.ignored:
            logger.warning("without meaning here, ignored: %s", ", ".join(settings.ignored))
        # a flushed table's memory is that of the next one: the system need not find it anew
        tune_allocator(settings.node.memtable_bytes)
        from cluster.main import ClusterMain
        from cluster.server.client_server import prepare

        node_control.write_pid_file(settings.node.data_dir)
    except (ConfigError, node_control.AlreadyRunning, node_control.FolderError) as error:
        return _failed(str(error), ready_fd)
    limits = settings.node
    room = room_for_connections(
        limits.rpc_max_concurrent_client_num, limits.internal_max_connections
    )
    settings = settings.with_connections(*room)
    try:
        prepare()
        spare_the_collector()
        return _run(ClusterMain(settings), ready_fd, out)
    finally:
        node_control.remove_pid_file(settings.node.data_dir)


def _run(node: ClusterMain, ready_fd: int | None, out: TextIO) -> int:
    signals = StopSignals(node.request_stop, ThreadRegistry().spawn)
    try:
        return _serve(node, ready_fd, out)
    finally:
        signals.close()


def _serve(node: ClusterMain, ready_fd: int | None, out: TextIO) -> int:
    try:
        node.start()
    except Exception as error:
        # whatever stopped it, an operator gets one line and exit code 1
        logger.debug("start-up failed", exc_info=True)
        return _failed(explained(error, node.settings.node), ready_fd)
    spare_the_collector()  # of what came since it was imported: little
    own = node.address_book.own
    line = f"ready: rpc {own.rpc_address}:{own.rpc_port}"
    print(line, file=out, flush=True)
    _report_ready(line, ready_fd)
    return node.run_until_stopped()


def spare_the_collector() -> None:
    """Leave modules, grammars and tables, 50 000 objects that stay, out of garbage collections.

    To look through them for cycles takes 30 to 50 ms, for which every request of the node waits.
    Nor is it looked as often as by default: what rows leave in memory has no cycles, and what
    queries leave in cycles is 20 to 30 small objects each (docs/notes/ingestion.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])


def explained(error: Exception, node: NodeLocal) -> str:
    """Return an error of the start-up with what to do, where the settings can mend it."""
    if not isinstance(error, ListenError):
        return str(error)
    ports = ("rpc_port", "internal_meta_port", "internal_data_port")
    port = next((key for key in ports if getattr(node, key) == error.port), "port")
    address = "rpc_address" if port == "rpc_port" else "internal_ip"
    hint = {
        errno.EADDRINUSE: f"stop the process that has it, or set another {port}",
        errno.EACCES: f"set a {port} above 1023",
    }.get(error.errno or 0, f"{address} must be an address or a name of this machine")
    return f"{error}; {hint}"


def _failed(text: str, ready_fd: int | None) -> int:
    print(f"error: {text}", file=sys.stderr)  # noqa: T201
    _report_ready(f"failed: {text}", ready_fd)
    return 1


if __name__ == "__main__":
    main(prog_name="start-node.sh")
