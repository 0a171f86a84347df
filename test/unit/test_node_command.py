"""What stops a start is told with what to do about it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cluster.config.settings import Settings
from cluster.errors import ListenError
from cluster.node_command import explained
from harness.modules import run_module


@pytest.mark.parametrize(
    ("number", "host", "port", "said"),
    [
        (errno.EADDRINUSE, "127.0.0.1", 6667, "has it, or set another rpc_port"),
        (errno.EADDRINUSE, "127.0.0.1", 9003, "set another internal_meta_port"),
        (errno.EADDRINUSE, "127.0.0.1", 40010, "set another internal_data_port"),
        (errno.EACCES, "127.0.0.1", 6667, "rpc_port above 1023"),
        (errno.EADDRNOTAVAIL, "1.2.3.4", 6667, "rpc_address must be"),
        (errno.EADDRNOTAVAIL, "1.2.3.4", 9003, "internal_ip must be"),
    ],
)
def test_an_address_that_can_not_be_had(number: int, host: str, port: int, said: str) -> None:
    error = ListenError(OSError(number, os.strerror(number)), host, port)
    text = explained(error, Settings.load(None, {}).node)
    assert text.startswith(f"cannot listen on {host}:{port}: {os.strerror(number)}; ")
    assert said in text


def test_other_errors_speak_for_themselves() -> None:
    assert explained(ValueError("a text"), Settings.load(None, {}).node) == "a text"


def test_keys_of_the_java_original_are_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way, so that nothing starts")
    settings = ("-D", f"data_dir={tmp_path}/data", "-D", "multi_raft_factor=1")
    answer = run_module("cluster.node_command", *settings)
    assert answer.returncode == 1
    assert "ignored: multi_raft_factor" in answer.stderr
    assert "data can't be written" in answer.stderr
