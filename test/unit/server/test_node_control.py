from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cluster.config.settings import ConfigError
from cluster.server import node_control
from harness.fake_database import wait_until
from harness.modules import run_module

ROOT = Path(__file__).resolve().parents[3]

FAKE_NODE = """
import os, signal, sys
from pathlib import Path
from cluster.server import node_control
data_dir = next(Path(a.partition("=")[2]) for a in sys.argv if a.startswith("data_dir="))
fd = int(sys.argv[sys.argv.index("--ready-fd") + 1])
mode = os.environ.get("FAKE_NODE", "")
print("fake node speaks", flush=True)
if mode == "failed":
    os.write(fd, b"failed: no seeds\\n")
    sys.exit(3)
if mode == "dies":
    sys.exit("it broke")
node_control.write_pid_file(data_dir)
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: (node_control.remove_pid_file(data_dir), os._exit(0)))
if mode == "late":
    while not (data_dir / "told").exists():
        pass
if mode != "slow":
    os.write(fd, b"ready: rpc 127.0.0.1:6667\\n")
    os.close(fd)
while True:
    signal.pause()
"""


@pytest.fixture
def node(tmp_path):
    """A folder, and a function that runs a piece of node_control in a process as the scripts do."""
    script = tmp_path / "fake_node.py"
    script.write_text(FAKE_NODE)
    data_dir = tmp_path / "data"

    def run(code, mode="", **options):
        return subprocess.run(
            [
                sys.executable,
                "-c",
                code.format(command=[sys.executable, str(script)], data=data_dir),
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT), "FAKE_NODE": mode},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **options,
        )

    yield data_dir, run
    pid = node_control.running_pid(data_dir)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: node_control.running_pid(data_dir) is None)


START = """
import sys
from cluster.server import node_control
argv = ["-D", "data_dir={data}"]
sys.exit(node_control.start_daemon(argv, command={command!r}))
"""
STOP = """
import sys
from pathlib import Path
from cluster.server import node_control
sys.exit(node_control.stop_node(Path("{data}"), 0.3))
"""


def test_a_daemon_from_start_to_stop(node):
    data_dir, run = node
    started = run(START)
    assert started.returncode == 0, started.stderr
    assert started.stdout == "ready: rpc 127.0.0.1:6667\n"
    pid = node_control.running_pid(data_dir)
    assert pid is not None
    assert f"pid {pid}" in started.stderr
    assert os.getsid(pid) == pid  # detached
    assert "fake node speaks" in (data_dir / "node.log").read_text()

    again = run(START)
    assert again.returncode == 1
    assert f"running already (pid {pid})" in again.stderr
    assert node_control.running_pid(data_dir) == pid

    stopped = run(STOP)
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert f"stopped (pid {pid})" in stopped.stdout
    assert not (data_dir / "node.pid").exists()

    nothing = run(STOP)
    assert nothing.returncode == 1
    assert "no node with data folder" in nothing.stderr


def test_the_stop_command(node):
    data_dir, run = node
    assert run(START).returncode == 0
    answer = subprocess.run(
        [sys.executable, "-m", "cluster.server.node_control", "stop", "-D", f"data_dir={data_dir}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert node_control.running_pid(data_dir) is None


@pytest.mark.parametrize(
    ("mode", "reason"), [("failed", "error: no seeds"), ("dies", "exit code 1")]
)
def test_a_daemon_that_fails_says_why(node, mode, reason):
    data_dir, run = node
    started = run(START, mode)
    assert started.returncode == 1
    assert reason in started.stderr
    if mode == "dies":
        assert "it broke" in started.stderr
    assert not (data_dir / "node.pid").exists()


def test_a_wrong_setting_is_told_before_anything_starts(node):
    data_dir, run = node
    started = run(START.replace('argv = ["-D",', 'argv = ["-D", "rpc_prot=1", "-D",'))
    assert started.returncode == 1
    assert "rpc_port" in started.stderr
    assert not data_dir.exists()


def test_a_node_that_does_not_stop_is_not_killed(node):
    data_dir, run = node
    assert run(START, "stubborn").returncode == 0
    pid = node_control.running_pid(data_dir)
    stopped = run(STOP)
    assert stopped.returncode == 1
    assert f"(pid {pid}) is still running" in stopped.stderr
    assert node_control.running_pid(data_dir) == pid


def test_a_node_that_is_not_ready_in_time_is_stopped(node):
    data_dir, run = node
    answer = run(
        """
from pathlib import Path
from cluster.server import node_control
started = node_control.launch(["-D", "data_dir={data}"], Path("{data}"), {command!r})
print(node_control.wait_ready(started, 1.0), started.process.returncode is not None)
""",
        "slow",
    )
    assert "not ready after 1 s; stopped again" in answer.stdout
    assert answer.stdout.strip().endswith("True")
    assert node_control.running_pid(data_dir) is None


def test_a_folder_that_can_not_be_used_is_named(node, tmp_path):
    data_dir, run = node
    data_dir.write_text("a file")
    started = run(START)
    assert started.returncode == 1
    assert started.stderr.startswith(f"error: data_dir {data_dir} can't be written: File exists;")
    assert "that is a folder" in started.stderr


@pytest.mark.parametrize(
    ("number", "what_to_do"),
    [
        (errno.ENOSPC, "make room there, or set another data_dir"),
        (errno.EDQUOT, "make room there, or set another data_dir"),
        (errno.EACCES, "set a data_dir that this user may write"),
        (errno.EEXIST, "set a data_dir that is a folder"),
        (errno.ENOTDIR, "set a data_dir that is a folder"),
    ],
)
def test_what_to_do_about_a_folder_that_can_not_be_used(tmp_path, number, what_to_do):
    error = node_control.FolderError(tmp_path, OSError(number, os.strerror(number)))
    assert str(error).endswith(f"can't be written: {os.strerror(number)}; {what_to_do}")


def test_a_pid_that_can_not_be_written_leaves_no_file(tmp_path, monkeypatch):
    def full(path, *_, **__):
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(node_control.FolderError, match="No space left"):
        node_control.write_pid_file(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_told_by_its_whole_path(tmp_path, monkeypatch):
    """`data` alone says nothing to who starts two nodes from two folders."""
    monkeypatch.chdir(tmp_path)
    error = node_control.AlreadyRunning(Path("data"), 17)
    assert f"data folder {tmp_path}/data is running already (pid 17)" in str(error)


def test_usage_names_the_script():
    answer = run_module("cluster.server.node_control", "stop", "now")
    assert answer.returncode == 2
    assert answer.stderr.startswith("Usage: stop-node.sh [OPTIONS]\n")


def test_a_node_whose_pid_can_not_be_noted_does_not_stay(node):
    _, run = node
    code = """
from pathlib import Path
from cluster.server import node_control
made = []
class Popen(node_control.subprocess.Popen):
    def __init__(self, *arguments, **options):
        made.append(self)
        super().__init__(*arguments, **options)
def no(data_dir, pid):
    raise node_control.FolderError(data_dir, OSError(28, "full"))
node_control.subprocess.Popen = Popen
node_control.write_pid_file = no
code = node_control.start_daemon(["-D", "data_dir={data}"], command={command!r})
print(code, [process.returncode for process in made])
"""
    answer = run(code)
    assert "full" in answer.stderr
    assert answer.stdout == "1 [-9]\n"


def test_a_node_that_is_launched_when_ctrl_c_comes_does_not_stay(node):
    data_dir, run = node
    code = """
import os, signal
from cluster.server import node_control
made = []
class Popen(node_control.subprocess.Popen):
    def __init__(self, *arguments, **options):
        made.append(self)
        super().__init__(*arguments, **options)
        os.kill(os.getpid(), signal.SIGINT)
node_control.subprocess.Popen = Popen
code = node_control.start_daemon(["-D", "data_dir={data}"], command={command!r})
print(code, [process.returncode is not None for process in made])
"""
    answer = run(code)
    assert answer.stdout == "130 [True]\n"
    assert answer.stderr == "interrupted; the node was stopped again\n"
    assert not (data_dir / "node.pid").exists()


def test_a_daemon_that_waits_for_others_says_so(node):
    data_dir, run = node
    code = START.replace(
        "argv =",
        """node_control._LONG_S = 0.1
tell = node_control._tell_waiting
def tell_when_it_spoke(started, settings):
    while b"speaks" not in started.log_path.read_bytes():
        pass
    tell(started, settings)
    (started.data_dir / "told").touch()
node_control._tell_waiting = tell_when_it_spoke
argv =""",
    )
    data_dir.mkdir()
    (data_dir / "node.log").write_text("what an earlier process wrote\n")
    started = run(code, "late")
    assert started.returncode == 0, started.stderr
    assert "earlier process" not in started.stderr
    assert started.stderr.startswith("not ready yet, still waiting")
    assert "fake node speaks" in started.stderr


# ---- pid files ----


def test_only_the_process_that_was_recorded_is_meant(tmp_path):
    node_control.write_pid_file(tmp_path)
    assert node_control.running_pid(tmp_path) == os.getpid()
    # the same number, another process: as after a reboot
    (tmp_path / "node.pid").write_text(f"{os.getpid()}\nsome boot 123\n")
    assert node_control.running_pid(tmp_path) is None
    assert node_control.request_stop(tmp_path) is None
    node_control.write_pid_file(tmp_path)
    node_control.remove_pid_file(tmp_path)
    assert not (tmp_path / "node.pid").exists()


@pytest.mark.parametrize("text", ["", "12", "x\ny\n", "\xff\n\n", "99999999\nboot 1\n"])
def test_a_pid_file_that_names_nobody(tmp_path, text):
    (tmp_path / "node.pid").write_text(text, encoding="latin-1")
    assert node_control.running_pid(tmp_path) is None
    node_control.write_pid_file(tmp_path)  # and is replaced
    assert node_control.running_pid(tmp_path) == os.getpid()


def test_a_living_process_keeps_its_pid_file(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        node_control.write_pid_file(tmp_path, other.pid)
        with pytest.raises(node_control.AlreadyRunning, match=str(other.pid)):
            node_control.write_pid_file(tmp_path)
        node_control.remove_pid_file(tmp_path)  # not ours
        assert node_control.running_pid(tmp_path) == other.pid
        other.kill()
    assert node_control.running_pid(tmp_path) is None


def test_one_of_several_that_start_at_once_gets_the_folder(tmp_path):
    command = [sys.executable, "-c", "input()"]
    others = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(6)]
    refused = []
    gate = threading.Barrier(len(others))

    def start(pid):
        gate.wait()
        try:
            node_control.write_pid_file(tmp_path, pid)
        except node_control.AlreadyRunning as error:
            refused.append(error.pid)

    threads = [threading.Thread(target=start, args=(other.pid,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == [node_control.running_pid(tmp_path)] * (len(others) - 1)
    for other in others:
        other.kill()
        other.communicate()


def test_a_zombie_is_not_running(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    node_control.write_pid_file(tmp_path, child.pid)
    wait_until(lambda: node_control.running_pid(tmp_path) is None)
    assert child.wait() == 0


def test_stopping_without_process_handles(tmp_path, monkeypatch):
    """As on systems that have no pidfd."""
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        node_control.write_pid_file(tmp_path, other.pid)
        stopping = node_control.request_stop(tmp_path)
        assert stopping is not None
        assert stopping.wait(60)
        assert not (tmp_path / "node.pid").exists()


def test_overrides():
    assert node_control.parse_overrides(["a=b=c", " d = "]) == {"a": "b=c", "d": ""}
    with pytest.raises(ConfigError, match="key=value"):
        node_control.parse_overrides(["a"])


def test_the_command_that_starts_a_daemon_imports_nothing_of_a_node():
    """The process that only starts another one need not take the time twice."""
    code = "import sys, cluster.node_command; print({'numpy', 'cluster.main'} & set(sys.modules))"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert answer.stdout == "set()\n"


def test_what_a_start_made_is_left_out_of_garbage_collections():
    code = (
        "import gc, cluster.node_command, cluster.main\n"
        "kept = len(gc.get_objects())\n"
        "cluster.node_command.spare_the_collector()\n"
        "print(len(gc.get_objects()) < kept / 10, gc.get_freeze_count() > kept / 2, gc.isenabled())"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert answer.stdout == "True True True\n"


def test_cycles_of_objects_are_found_soon_all_the_same():
    code = (
        "import weakref, cluster.node_command\n"
        "cluster.node_command.spare_the_collector()\n"
        "class Ring: pass\n"
        "rings = []\n"
        "for _ in range(50_000):\n"
        "    ring = Ring()\n"
        "    ring.itself = ring\n"
        "    rings.append(weakref.ref(ring))\n"
        "print(sum(ring() is not None for ring in rings) < 10_000)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert answer.stdout == "True\n"
