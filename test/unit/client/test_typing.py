"""The driver's types as a user's strict mypy sees them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.process_cluster import ROOT

PROGRAM = """
from __future__ import annotations

import pathlib

import iotdb_client
from iotdb_client import Connection, ConnectionPool, Cursor, DataType, Error


def read(connection: Connection) -> list[float]:
    cursor: Cursor = connection.cursor()
    cursor.execute("select s from root.d where time > ?", (5,))
    cursor.execute("select s from root.d where time > :t", {"t": 5})
    reveal_type(cursor.fetchone())
    reveal_type(cursor.description)
    return [float(row[1]) for row in cursor]


def write(target: pathlib.Path) -> int:
    with iotdb_client.connect(target, fetch_size=100, zone="UTC") as connection:
        connection.insert_tablet("root.d", ["s"], [DataType.DOUBLE], [1], [[0.5]])
        connection.cursor().executemany("insert into root.d(time, s) values (?, ?)", [(1, 2.0)])
        return len(read(connection))


def pooled() -> None:
    with ConnectionPool("localhost:6667", max_size=2) as pool, pool.connection() as connection:
        reveal_type(connection.execute("show version").fetchall())


def failing() -> tuple[int | None, bool]:
    try:
        iotdb_client.connect("localhost")
    except Error as error:
        return error.status, error.definite
    return None, True


same: bool = iotdb_client.STRING == "TEXT"
"""

REVEALED = [
    'Revealed type is "tuple[Any, ...] | None"',
    "iotdb_client.types.ColumnDescription], ...] | None",
    'Revealed type is "list[tuple[Any, ...]]"',
]


@pytest.mark.slow
def test_a_program_passes_mypy_strict(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    config = tmp_path / "mypy.ini"
    # what is below the driver's public names is checked with the project
    config.write_text(
        "[mypy]\nstrict = True\n[mypy-cluster.*,iotdb_engine.*]\nfollow_imports = skip\n"
        "[mypy-thrift.*,pandas.*,pyarrow.*,polars.*]\nignore_missing_imports = True\n"
        "follow_imports = skip\n"
    )
    found = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--config-file",
            str(config),
            "--cache-dir",
            str(tmp_path / "cache"),
            str(path),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    revealed = [line for line in found.stdout.splitlines() if "Revealed" in line]
    assert found.returncode == 0, found.stdout
    assert len(revealed) == len(REVEALED)
    for line, wanted in zip(revealed, REVEALED, strict=True):
        normal = line.replace("builtins.", "").replace("Union[", "")
        assert wanted in normal, line
