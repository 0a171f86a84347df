"""Writes and reads through several hosts, and tells when it goes on at another one.

    sbin/start-cluster.sh 3 /tmp/trial          # says the ports
    python examples/failover_demo.py 127.0.0.1:PORT1,127.0.0.1:PORT2,127.0.0.1:PORT3 [--seconds 60]

Kill a node while it runs (`kill -9`): it pauses for a moment, and goes on. At the end it counts:
every row that was acknowledged is there, once.
"""

from __future__ import annotations

import argparse
import time

import iotdb_client
from iotdb_client import DataType

DEVICE = "root.demo.failover"


def main() -> None:
    """Write for a while, then count."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("hosts")
    arguments.add_argument("--seconds", type=float, default=60.0)
    given = arguments.parse_args()
    with iotdb_client.connect(given.hosts, retry_s=60) as connection:
        written, longest, host = 0, 0.0, connection.session.port
        end = time.monotonic() + given.seconds
        print(f"writing through port {host}", flush=True)
        while time.monotonic() < end:
            began = time.monotonic()
            connection.insert_tablet(DEVICE, ["n"], [DataType.INT64], [written], [[written]])
            longest = max(longest, time.monotonic() - began)
            written += 1
            if connection.session.port != host:
                host = connection.session.port
                print(f"row {written}: going on through port {host}", flush=True)
        rows = connection.execute(f"select n from {DEVICE}").fetchall()
    missing = set(range(written)) - {value for _, value in rows}
    print(f"{written} rows acknowledged, {len(rows)} found, {len(missing)} missing")
    print(f"longest wait for one row: {longest:.2f} s")


if __name__ == "__main__":
    main()
