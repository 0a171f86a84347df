"""The scripts' own environment, without a network: nothing is installed here."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SBIN = ROOT / "sbin"


def load():
    spec = importlib.util.spec_from_file_location("sbin_environment", SBIN / "environment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


environment = load()


def test_requirements_come_from_setup_cfg(tmp_path):
    wanted = environment.requirements(ROOT / "setup.cfg", ["test"])
    assert any(line.startswith("rocksdict>=") for line in wanted)
    assert any(line.startswith("pytest>=") for line in wanted)
    assert set(environment.requirements(ROOT / "setup.cfg", [])) < set(wanted)
    with pytest.raises(environment.SetUpError, match="no extra 'nope'"):
        environment.requirements(ROOT / "setup.cfg", ["nope"])


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ("pytest", True),
        ("pytest>=7,<1000", True),
        ("pytest >= 7 , != 7.0.1", True),
        ("pytest<2", False),
        ("pytest==1.0", False),
        ("prompt_toolkit>=3.0.40", True),
        ("no-such-distribution-here>=1", False),
    ],
)
def test_what_is_installed(requirement, expected):
    assert environment.is_installed(requirement) is expected


@pytest.mark.parametrize(
    ("found", "clause", "expected"),
    [
        ("1.10", ">=1.9", True),
        ("2", "<=2.0.0", True),
        ("2.0.1", "<=2", False),
        ("0.3.29", "<0.4", True),
        ("0.4", "<0.4", False),
        ("1.2rc1", "==1.2", True),
    ],
)
def test_versions_are_compared_as_numbers(found, clause, expected):
    assert environment._meets(environment._numbers(found), clause) is expected


@pytest.fixture
def made(monkeypatch):
    """Replaces making and installing; returns the list of folders that were made."""
    done = []

    def make(folder, python, wanted, _more):
        done.append(folder)
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()

    monkeypatch.setattr(environment, "_make", make)
    return done


def test_an_environment_is_made_once_and_again_when_requirements_change(tmp_path, made):
    folder = tmp_path / "a" / "venv"
    python = environment.environment(folder, ["x>=1"])
    assert python == folder / "bin" / "python"
    environment.environment(folder, ["x>=1"])
    assert made == [folder]
    environment.environment(folder, ["x>=2"])
    assert made == [folder, folder]
    assert [item.name for item in (tmp_path / "a").iterdir()] == ["venv"]


def test_the_environment_of_the_checkout_finds_its_packages(tmp_path):
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    environment.add_checkout(tmp_path)
    environment.add_checkout(tmp_path)
    assert [path.read_text() for path in packages.iterdir()] == [f"{ROOT}\n"]
    code = "import sys, site; site.addsitedir(sys.argv[1]); import iotdb_client"
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", code, packages], cwd=tmp_path, env=env, check=True)


def test_scripts_with_and_without_extras_take_turns(tmp_path, made):
    folder = tmp_path / "venv"
    for _ in range(2):
        environment.environment(folder, ["x"])
        environment.environment(folder, ["x", "y"], ["test"])
    assert len(made) == 2


@pytest.mark.parametrize(("extras", "is_compiled"), [([], True), (["test"], False)])
def test_what_only_tests_need_is_compiled_when_it_is_imported(
    tmp_path, monkeypatch, extras, is_compiled
):
    """A node's first start is to be quick; and who runs it may not be who made the environment."""
    commands = []
    monkeypatch.setattr(environment, "_works", lambda _python: True)
    monkeypatch.setattr(environment, "_run", lambda command, _problem: commands.append(command))
    (tmp_path / "venv").mkdir()
    environment.environment(tmp_path / "venv", ["x"], extras)
    [command] = commands
    assert ("--no-compile" not in command) is is_compiled
    assert command[-1] == "x"


def test_two_scripts_at_once_make_one_environment(tmp_path, made, monkeypatch):
    slow_make = environment._make
    both = threading.Barrier(2, timeout=10)

    def make(*arguments):
        made_before.wait(0.2)  # never set: time for the other one to come to the lock
        slow_make(*arguments)

    made_before = threading.Event()
    monkeypatch.setattr(environment, "_make", make)

    def start():
        both.wait()
        environment.environment(tmp_path / "venv", ["x"])

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("x")
    with pytest.raises(environment.SetUpError, match="left as it is"):
        environment.environment(tmp_path, ["x"])
    assert (tmp_path / "precious").read_text() == "x"


def test_when_venv_fails_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(environment.sys, "executable", "/bin/false")
    with pytest.raises(environment.SetUpError, match="python3-venv"):
        environment.environment(tmp_path / "venv", ["x"])


def test_a_python_that_has_everything_is_used_as_it_is():
    env = {key: value for key, value in os.environ.items() if key != "IOTDB_PY_VENV"}
    answer = subprocess.run(
        [sys.executable, SBIN / "environment.py", "test"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == sys.executable


def test_scripts_are_valid_and_executable():
    scripts = sorted(SBIN.glob("*.sh"))
    assert len(scripts) == 8
    for script in [*scripts, ROOT / ".ci" / "run"]:
        subprocess.run(["bash", "-n", script], check=True)
        assert os.access(script, os.X_OK) == (script.name != "common.sh")


@pytest.mark.parametrize("linked", [False, True])
def test_scripts_find_the_checkout_from_anywhere(tmp_path, linked):
    script = SBIN / "nodetool.sh"
    if linked:  # as in /usr/local/bin
        (tmp_path / "bin").mkdir()
        script = tmp_path / "bin" / "iotdb nodetool"
        script.symlink_to(SBIN / "nodetool.sh")
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "__init__.py").write_text("raise SystemExit('the wrong cluster')")
    env = {**os.environ, "IOTDB_PYTHON": sys.executable}
    env.pop("IOTDB_PY_VENV", None)
    env.pop("PYTHONPATH", None)
    answer = subprocess.run(
        [script, "-p", "1", "status"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if sys.version_info >= (3, 11):  # before, a folder `cluster` where one stands is in the way
        assert answer.returncode == 2, answer.stderr
        assert "127.0.0.1:1" in answer.stderr
    else:
        assert "wrong cluster" in answer.stderr


def test_without_a_usable_python_the_message_says_so():
    answer = subprocess.run(
        [SBIN / "nodetool.sh", "status"],
        env={"PATH": os.environ["PATH"], "IOTDB_PYTHON": "/bin/false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode != 0
    assert "Python 3.10 or later is needed" in answer.stderr
