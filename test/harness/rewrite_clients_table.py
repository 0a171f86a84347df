"""Writes the table of docs/clients.md: every official client lives its life on one node.

usage: python test/harness/rewrite_clients_table.py [ROWS]

ROWS is how many are paged, 120 000 if not said. Environments: see official_environments.py;
IOTDB_COMPAT_ALL=1 makes all of them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

from harness.official_environments import environments  # noqa: E402
from harness.official_lives import live, rewrite_page, table_text  # noqa: E402
from harness.process_cluster import process_cluster  # noqa: E402


def main(rows: int) -> int:
    lives = []
    with tempfile.TemporaryDirectory() as folder, process_cluster(Path(folder), 1) as cluster:
        for release, (python, reason) in environments().items():
            if reason:
                print(reason)
                return 1
            lived = live(python, release, cluster.nodes[0].rpc_port, rows)
            lives.append(lived)
            print(lived.failures() or f"{release}: {len(lived.outcomes)} operations, none failed")
        cluster.stop()
    rewrite_page(table_text(lives))
    return any(lived.failures() for lived in lives)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 120_000))
