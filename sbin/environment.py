"""Finds or makes the Python environment that the scripts of this folder run in.

usage: environment.py [EXTRA…]

Prints the path of a Python that has what setup.cfg requires (with the named extras, e.g. `test`).
Progress goes to stderr. In this order:

1. the running Python, where everything is installed already (unless IOTDB_PY_VENV is set);
2. the virtual environment that IOTDB_PY_VENV names, or `.venv` beside setup.cfg. It is made when it
   is missing, and brought up to date when setup.cfg has changed; two scripts that start at once
   do that one after the other.

Uses nothing but the standard library.
"""

from __future__ import annotations

if __name__ == "__main__":
    import os
    import signal

    # Ctrl-C while the rest is loaded: nothing was begun, so there is nothing to undo or to say.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # common.sh held it back

import configparser
import contextlib
import fcntl
import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAMP = "iotdb-requirements"
PATH_FILE = "iotdb-checkout.pth"
# Of what tests need most is never imported; to compile all of it takes as long as to install it.
# Whoever runs them may write here, so what is imported is compiled once.
_LAZY = ("--no-compile",)


class SetUpError(Exception):
    """No environment can be had; the message says what to do."""


def say(text: str) -> None:
    """Tell the user what is going on."""
    print(f"[setup] {text}", file=sys.stderr, flush=True)  # noqa: T201


# ---- requirements ----


def requirements(setup_cfg: Path, extras: Sequence[str]) -> list[str]:
    """Return what setup.cfg requires, with extras."""
    parser = configparser.ConfigParser()
    parser.read(setup_cfg, encoding="utf-8")
    texts = [parser["options"]["install_requires"]]
    for extra in extras:
        if not parser.has_option("options.extras_require", extra):
            raise SetUpError(f"{setup_cfg} has no extra {extra!r}")
        texts.append(parser["options.extras_require"][extra])
    return [line.strip() for text in texts for line in text.splitlines() if line.strip()]


def is_installed(requirement: str) -> bool:
    """Whether the running Python has a distribution that meets `name>=1.2,<2`."""
    match = re.fullmatch(r"([\w.-]+)\s*(.*)", requirement)
    if match is None:
        raise SetUpError(f"can't read the requirement {requirement!r}")
    try:
        found = _numbers(metadata.version(match[1]))
    except metadata.PackageNotFoundError:
        return False
    return all(_meets(found, clause.strip()) for clause in match[2].split(",") if clause.strip())


def _meets(found: tuple[int, ...], clause: str) -> bool:
    match = re.fullmatch(r"(>=|<=|==|!=|<|>)\s*(\S+)", clause)
    if match is None:
        raise SetUpError(f"can't read the version {clause!r}")
    wanted = _numbers(match[2])
    width = max(len(found), len(wanted))
    a, b = (numbers + (0,) * (width - len(numbers)) for numbers in (found, wanted))
    return {
        ">=": a >= b,
        "<=": a <= b,
        "==": a == b,
        "!=": a != b,
        "<": a < b,
        ">": a > b,
    }[match[1]]


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else (0,)


# ---- the virtual environment ----


def environment(folder: Path, wanted: Sequence[str], extras: Sequence[str] = ()) -> Path:
    """Return the Python of a virtual environment that has everything; makes what is missing.

    Each set of extras has a stamp of its own in the folder, so that scripts with and without them
    can use it by turns.
    """
    python = folder / "bin" / "python"
    digest = hashlib.sha256("\n".join([sys.version, *sorted(wanted)]).encode()).hexdigest()
    stamp = folder / "-".join([STAMP, *sorted(extras)])
    if _is_ready(stamp, python, digest):
        return python
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        if not _is_ready(stamp, python, digest):  # another script may have done it meanwhile
            _make(folder, python, wanted, _LAZY if "test" in extras else ())
            made = folder / f"{STAMP}.{os.getpid()}"
            made.write_text(digest + "\n", encoding="ascii")
            made.replace(stamp)
            say("done")
    return python


def add_checkout(folder: Path) -> None:
    """Have the environment's Python find the packages of this checkout, wherever it is called."""
    for packages in folder.glob("lib/python*/site-packages"):
        path = packages / PATH_FILE
        if not path.exists() or path.read_text(encoding="utf-8") != f"{ROOT}\n":
            path.write_text(f"{ROOT}\n", encoding="utf-8")


def _is_ready(stamp: Path, python: Path, digest: str) -> bool:
    try:
        return stamp.read_text(encoding="ascii").strip() == digest and python.exists()
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold an advisory lock on the folder's parent; the system frees it even when we are killed."""
    parent = os.open(folder.parent, os.O_RDONLY)  # a lock on it leaves no file behind
    try:
        try:
            fcntl.flock(parent, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another script is preparing an environment beside {folder}; waiting for it")
            fcntl.flock(parent, fcntl.LOCK_EX)
        yield
    finally:
        os.close(parent)


def _make(folder: Path, python: Path, wanted: Sequence[str], more: Sequence[str]) -> None:
    if not _works(python):
        if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
            raise SetUpError(f"{folder} is not empty and no virtual environment: left as it is")
        say(f"1/2 making a virtual environment in {folder} with {sys.executable}")
        _run(
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            "this Python can't make virtual environments (on Debian and Ubuntu: install "
            "python3-venv). Or name another Python with IOTDB_PYTHON, or an environment that has "
            "the packages of setup.cfg with IOTDB_PY_VENV",
        )
    say(f"2/2 installing {', '.join(re.split('[<>=!]', item)[0] for item in wanted)}")
    options = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    # the newest release of a library may have no wheel for this Python, and need a compiler
    options.append("--prefer-binary")
    options += more
    if not os.access(os.environ.get("HOME") or "/nonexistent", os.W_OK):
        options.append("--no-cache-dir")  # pip would try to write below an unusable HOME
    _run(
        [str(python), "-m", "pip", "install", *options, *wanted],
        "the packages could not be installed; is there a connection to a package index? "
        "The reason stands above",
    )


def _works(python: Path) -> bool:
    if not python.exists():
        return False
    probe = "import pip, sys; sys.exit(sys.version_info < (3, 10))"
    return subprocess.run([python, "-c", probe], check=False, capture_output=True).returncode == 0


def _run(command: list[str], problem: str) -> None:
    # stdout carries our answer, so what the tools say goes to stderr
    try:
        code = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False
        ).returncode
    except OSError as error:
        raise SetUpError(f"{command[0]}: {error.strerror}") from error
    if code:
        raise SetUpError(problem)


def main(extras: Sequence[str]) -> int:
    """Print the Python to use; return the exit code."""
    try:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            # from here on it has to wait for what was begun
            signal.signal(signal.SIGINT, signal.default_int_handler)
        wanted = requirements(ROOT / "setup.cfg", extras)
        named = os.environ.get("IOTDB_PY_VENV", "")
        if not named and all(map(is_installed, wanted)):
            python = Path(sys.executable)
        else:
            folder = Path(named).absolute() if named else ROOT / ".venv"
            python = environment(folder, wanted, extras)
            if not named:
                add_checkout(folder)
    except (SetUpError, OSError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    print(python)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
