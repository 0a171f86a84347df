"""Node processes from outside: daemons, pid files, stopping. Knows nothing of what a node does.

A pid file is `<data_dir>/node.pid`: the process id, and on a second line when that process started,
so that a number which the system has given to another process since is never signalled.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import click

from cluster.config.settings import ConfigError, Settings

PID_FILE = "node.pid"
LOG_FILE = "node.log"
STOP_TIMEOUT_S = 30.0
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

_POLL_S = 0.05
_LOG_TAIL_LINES = 15
_LONG_S = 10.0
"""When a node is not ready after this, its user is told what it waits for."""
_NODE_COMMAND = (sys.executable, "-m", "cluster.node_command")


class AlreadyRunning(Exception):
    """Another process runs a node with this data folder."""

    def __init__(self, data_dir: Path, pid: int) -> None:
        super().__init__(
            f"a node with data folder {data_dir.absolute()} is running already (pid {pid})"
        )
        self.pid = pid


class FolderError(Exception):
    """The data folder can't be used."""

    def __init__(self, data_dir: Path, error: OSError) -> None:
        what_to_do = {
            errno.ENOSPC: "make room there, or set another data_dir",
            errno.EDQUOT: "make room there, or set another data_dir",
            errno.EEXIST: "set a data_dir that is a folder",
            errno.ENOTDIR: "set a data_dir that is a folder",
        }.get(error.errno or 0, "set a data_dir that this user may write")
        super().__init__(
            f"data_dir {data_dir.absolute()} can't be written: {error.strerror or error}; "
            f"{what_to_do}"
        )


# ---- pid files ----


def write_pid_file(data_dir: Path, pid: int | None = None) -> None:
    """Record that a process (default: this one) runs the node of a data folder.

    Raises:
        AlreadyRunning: the file names another process, and that one is alive.
        FolderError: the folder can't be written.
    """
    pid = os.getpid() if pid is None else pid
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with _locked(data_dir):
            other = running_pid(data_dir)
            if other is not None and other != pid:
                raise AlreadyRunning(data_dir, other)
            made = data_dir / f"{PID_FILE}.{os.getpid()}"
            try:
                made.write_text(f"{pid}\n{_process_start(pid) or ''}\n", encoding="ascii")
                made.replace(data_dir / PID_FILE)
            except OSError:
                made.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise FolderError(data_dir, error) from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep others from writing a pid file meanwhile; leaves no file, and ends with the process."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def remove_pid_file(data_dir: Path, pid: int | None = None) -> None:
    """Forget that process (default: this one); does nothing when the file names another one."""
    pid = os.getpid() if pid is None else pid
    recorded = _read_pid_file(data_dir)
    if recorded is not None and recorded[0] == pid:
        (data_dir / PID_FILE).unlink(missing_ok=True)


def running_pid(data_dir: Path) -> int | None:
    """Return the process that runs the node of a data folder, or None."""
    recorded = _read_pid_file(data_dir)
    if recorded is None:
        return None
    pid, start = recorded
    return pid if start and _process_start(pid) == start else None


def _read_pid_file(data_dir: Path) -> tuple[int, str] | None:
    try:
        lines = (data_dir / PID_FILE).read_text(encoding="ascii").splitlines()
        return int(lines[0]), lines[1]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, IndexError, UnicodeDecodeError):
        return None  # torn by a crash: it names nobody


def _process_start(pid: int) -> str | None:
    """Return what tells this process from others that had or will have its id; None: not alive."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _process_start_by_ps(pid)
    except ProcessLookupError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else f"{boot} {fields[18]}"


def _process_start_by_ps(pid: int) -> str | None:
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, start = answer.stdout.strip().partition(" ")
    return start.strip() if start and not state.startswith("Z") else None


# ---- start ----


class Launch(NamedTuple):
    """A node process on its way.

    Attributes:
        process: the child, in a session of its own.
        ready_fd: reading end of the pipe on which it says `ready: …` or `failed: …`.
        data_dir: of the node.
        log_start: where in its log this process begins, after what earlier ones wrote.
    """

    process: subprocess.Popen[bytes]
    ready_fd: int
    data_dir: Path
    log_start: int

    @property
    def log_path(self) -> Path:
        """Where the node's output goes."""
        return self.data_dir / LOG_FILE


class Report(NamedTuple):
    """What became of a launch: the `ready: …` line, or why there is none."""

    ready: bool
    text: str


def launch(argv: Sequence[str], data_dir: Path, command: Sequence[str] = _NODE_COMMAND) -> Launch:
    """Start a detached node process that reports through a pipe.

    Args:
        argv: arguments for cluster.node_command.
        data_dir: what these arguments mean for the data folder; the output is appended to
            `node.log` there.
        command: what runs a node.

    Raises:
        AlreadyRunning: that data folder has a running node.
        FolderError: the folder can't be written.
        OSError: the process can't be started.
    """
    log = _opened_log(data_dir)
    log_start = log.tell()
    read_fd, write_fd = os.pipe()
    try:
        with log:
            process = subprocess.Popen(
                [*command, *argv, "--ready-fd", str(write_fd)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(write_fd,),
                start_new_session=True,
            )
        try:
            # at once, so that a node which waits for others can be stopped, too
            write_pid_file(data_dir, process.pid)
        except BaseException:
            process.kill()  # nobody would know of it
            process.wait()
            raise
    except BaseException:
        os.close(read_fd)
        raise
    finally:
        os.close(write_fd)
    return Launch(process, read_fd, data_dir, log_start)


def _opened_log(data_dir: Path) -> BinaryIO:
    try:
        other = running_pid(data_dir)
        if other is not None:
            raise AlreadyRunning(data_dir, other)
        data_dir.mkdir(parents=True, exist_ok=True)
        return (data_dir / LOG_FILE).open("ab")
    except OSError as error:
        raise FolderError(data_dir, error) from error


def wait_ready(
    started: Launch,
    timeout_s: float | None = None,
    on_waiting: Callable[[], None] | None = None,
) -> Report:
    """Wait until a launched node is ready or has failed; closes the pipe.

    A node that is not ready in time is stopped. None: wait as long as it takes, which is for ever
    where too few other nodes come up. `on_waiting` is called once, when it takes long.
    """
    end = None if timeout_s is None else time.monotonic() + timeout_s
    said = b""
    try:
        if on_waiting is not None and not select.select([started.ready_fd], [], [], _LONG_S)[0]:
            on_waiting()
        while not said.endswith(b"\n"):
            wait = None if end is None else max(0.0, end - time.monotonic())
            if not select.select([started.ready_fd], [], [], wait)[0]:
                abandon(started)
                return Report(ready=False, text=f"not ready after {timeout_s:g} s; stopped again")
            piece = os.read(started.ready_fd, 4096)
            if not piece:
                break
            said += piece
    except BaseException:
        abandon(started)
        raise
    finally:
        os.close(started.ready_fd)
    text = said.decode(errors="replace").strip()
    if text.startswith("ready:"):
        return Report(ready=True, text=text)
    code = _end_of(started)
    remove_pid_file(started.data_dir, started.process.pid)
    if text:
        return Report(ready=False, text=text.removeprefix("failed:").strip())
    ended = f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"
    return Report(
        ready=False,
        text=f"the node {ended}; the end of {started.log_path}:\n{_tail(started)}",
    )


def abandon(started: Launch) -> None:
    """Stop a launched node that is not wanted any more, and wait for its end."""
    started.process.terminate()
    _end_of(started)
    remove_pid_file(started.data_dir, started.process.pid)


def _end_of(started: Launch) -> int:
    try:
        return started.process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        started.process.kill()
        return started.process.wait()


def _tail(started: Launch, count: int = _LOG_TAIL_LINES) -> str:
    with started.log_path.open("rb") as log:
        log.seek(started.log_start)
        lines = log.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-count:])


def start_daemon(argv: Sequence[str], command: Sequence[str] = _NODE_COMMAND) -> int:
    """Start a node in the background and wait until it is ready.

    Args:
        argv: arguments for cluster.node_command, without `-d`.
        command: what runs a node.

    Returns:
        Exit code: 0 once it is ready (the `ready: …` line is printed), 1 with the reason on stderr,
        130 after Ctrl-C. Called once in a process, by its main thread.
    """
    try:
        settings = _settings_of(argv)
        # between its launch and `started` nobody could stop the node again
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        raise_interrupts()
        started = launch(argv, settings.node.data_dir, command)
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # the node does so, too
            report = wait_ready(started, on_waiting=lambda: _tell_waiting(started, settings))
        except KeyboardInterrupt:
            abandon(started)  # wait_ready did, unless it had not come so far
            raise
    except (AlreadyRunning, ConfigError, FolderError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        return 1
    except KeyboardInterrupt:
        click.echo("interrupted; the node was stopped again", err=True)
        return INTERRUPTED
    if not report.ready:
        click.echo(f"error: {report.text}", err=True)
        return 1
    click.echo(report.text)
    click.echo(f"in the background: pid {started.process.pid}, log {started.log_path}", err=True)
    return 0


def raise_interrupts() -> None:
    """Have Ctrl-C raise KeyboardInterrupt from now on, unless this process is not to heed it."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _tell_waiting(started: Launch, settings: Settings) -> None:
    others = (
        " It needs more than half of the nodes in seed_nodes."
        if len(settings.cluster.seed_nodes) > 1
        else ""
    )
    click.echo(
        f"not ready yet, still waiting (Ctrl-C stops the node again).{others} "
        f"Its log, {started.log_path}, ends with:\n"
        f"{_tail(started, 3) or '(nothing yet)'}",
        err=True,
    )


def _settings_of(argv: Sequence[str]) -> Settings:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-c", dest="conf_dir", type=Path, default=None)
    parser.add_argument("-D", dest="pairs", action="append", default=[])
    known, _ = parser.parse_known_args(list(argv))
    return Settings.load(known.conf_dir, parse_overrides(known.pairs))


def parse_overrides(pairs: Sequence[str]) -> Mapping[str, str]:
    """Return what `-D key=value` options say; raises ConfigError for one without `=`."""
    overrides = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"-D wants key=value, got {pair!r}")
        overrides[key.strip()] = value.strip()
    return overrides


# ---- stop ----


class Stopping:
    """A node process that was asked to end; use `wait` once.

    Args:
        data_dir: of the node.
        pid: verified to be the node's.
        pidfd: handle of exactly that process, or None where the system has none.
    """

    def __init__(self, data_dir: Path, pid: int, pidfd: int | None) -> None:
        self.data_dir = data_dir
        self.pid = pid
        self._pidfd = pidfd

    def wait(self, timeout_s: float) -> bool:
        """Wait until the process is gone; return whether it is."""
        gone = self._gone_within(timeout_s)
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        if gone:
            remove_pid_file(self.data_dir, self.pid)
        return gone

    def _gone_within(self, timeout_s: float) -> bool:
        if self._pidfd is not None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            return bool(poll.poll(timeout_s * 1000))
        end = time.monotonic() + timeout_s
        while running_pid(self.data_dir) == self.pid:
            if time.monotonic() > end:
                return False
            time.sleep(_POLL_S)  # nothing tells the end of a process that is not our child
        return True


def request_stop(data_dir: Path) -> Stopping | None:
    """Send SIGTERM to the node of a data folder; None when none is running.

    Raises:
        PermissionError: the process belongs to somebody else.
    """
    pid = running_pid(data_dir)
    if pid is None:
        return None
    pidfd: int | None = None
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):  # an old kernel, or the process ended just now
            pidfd = os.pidfd_open(pid)
    try:
        # asked again after the handle was taken: now the handle can't mean another process
        if running_pid(data_dir) != pid:
            raise ProcessLookupError
        if pidfd is not None:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        else:
            os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        if pidfd is not None:
            os.close(pidfd)
        return None
    except BaseException:
        if pidfd is not None:
            os.close(pidfd)
        raise
    return Stopping(data_dir, pid, pidfd)


def stop_node(data_dir: Path, timeout_s: float = STOP_TIMEOUT_S) -> int:
    """Stop the node of a data folder and say what happened.

    Returns:
        Exit code: 0 when the node has stopped, 1 when none was running or it does not stop.
    """
    try:
        stopping = request_stop(data_dir)
    except PermissionError:
        whole = data_dir.absolute()
        click.echo(f"error: the node with data folder {whole} is another user's", err=True)
        return 1
    if stopping is None:
        click.echo(f"error: no node with data folder {data_dir.absolute()} is running", err=True)
        return 1
    if not stopping.wait(timeout_s):
        click.echo(
            f"error: the node (pid {stopping.pid}) is still running {timeout_s:g} s after it was "
            f"asked to stop; see its log. It was not killed",
            err=True,
        )
        return 1
    click.echo(f"node with data folder {data_dir.absolute()} stopped (pid {stopping.pid})")
    return 0


@click.group(context_settings={"help_option_names": ["--help"]})
def main() -> None:
    """Control the node process of a data folder."""


@main.command()
@click.option(
    "-c",
    "conf_dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Folder with iotdb-cluster.properties.",
)
@click.option("-D", "pairs", multiple=True, metavar="key=value", help="E.g. data_dir=FOLDER.")
@click.option("--timeout", default=STOP_TIMEOUT_S, show_default=True, help="Seconds to wait.")
def stop(conf_dir: Path | None, pairs: tuple[str, ...], timeout: float) -> None:
    """Stop the node that the configuration's data_dir names."""
    try:
        settings = Settings.load(conf_dir, parse_overrides(pairs))
    except ConfigError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    sys.exit(stop_node(settings.node.data_dir, timeout))


if __name__ == "__main__":
    if sys.argv[1:2] == ["stop"]:  # as the script calls it, whose usage this is
        stop.main(sys.argv[2:], prog_name="stop-node.sh")
    main()
