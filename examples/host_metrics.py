r"""Writes load, memory and disk use of this machine into a server, a cluster or a folder.

    python examples/host_metrics.py [--to 127.0.0.1:6667] [--every 1.0] [--count 0]

`--to h1:6667,h2:6667,h3:6667` goes on at another host when one is lost. `--count 0`: until Ctrl-C.
Watch it with `sbin/start-cli.sh`:  \plot root.hosts.<name>.load1
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import time
from pathlib import Path

import iotdb_client
from iotdb_client import DataType

NAMES = ["load1", "memory_free", "disk_free"]
TYPES = [DataType.DOUBLE, DataType.INT64, DataType.INT64]


def sample() -> list[list[float | int]]:
    """One row, as columns."""
    memory = 0
    if Path("/proc/meminfo").exists():
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        memory = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    return [[os.getloadavg()[0]], [memory * 1024], [shutil.disk_usage("/").free]]


def main() -> None:
    """Sample until told to stop."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--to", default="127.0.0.1:6667", help="hosts, URL or folder")
    arguments.add_argument("--every", type=float, default=1.0, help="seconds")
    arguments.add_argument("--count", type=int, default=0, help="samples; 0: no end")
    given = arguments.parse_args()
    host = "".join(c if c.isalnum() else "_" for c in socket.gethostname())
    device = f"root.hosts.h_{host}"
    with iotdb_client.connect(given.to) as connection:
        taken = 0
        while not given.count or taken < given.count:
            now = time.time_ns() // 1_000_000
            connection.insert_tablet(device, NAMES, TYPES, [now], sample(), aligned=True)
            taken += 1
            time.sleep(given.every)
        rows = connection.execute(f"select last load1 from {device}").fetchall()
    print(f"{taken} samples written to {device}; the last load is {rows[0][2]}")


if __name__ == "__main__":
    main()
