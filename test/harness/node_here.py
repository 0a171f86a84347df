"""A node of one in the test's own process, not started yet."""

from __future__ import annotations

from pathlib import Path

from cluster.config.settings import Settings
from cluster.main import ClusterMain
from harness.ports import free_ports


def node_here(data_dir: Path) -> ClusterMain:
    """Return a node on free ports with its data in a folder; the caller starts and stops it."""
    meta, data, rpc = free_ports(3)
    return ClusterMain(
        Settings.load(
            None,
            {
                "data_dir": str(data_dir),
                "internal_meta_port": str(meta),
                "internal_data_port": str(data),
                "rpc_port": str(rpc),
            },
        )
    )
