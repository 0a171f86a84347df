"""The nodes that this node has met, in a small file, for restarts before the engine is open."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from cluster.partition.node_info import NodeInfo
from cluster.raft.types import NodeId

_FILE = "known_nodes.json"
_FORMAT = 1


class KnownNodesFile:
    """`<data_dir>/system/known_nodes.json`: node infos, and whether a partition table was held.

    A hint, not the truth: the replicated registry and the nodes themselves overrule it. Losing it
    costs a restart its memory of changed addresses only.
    """

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "system" / _FILE
        self._lock = threading.Lock()
        self._infos: dict[NodeId, NodeInfo] = {}
        self.has_partition_table = False

    def load(self) -> list[NodeInfo]:
        """Read the file; a missing one is empty, a damaged one is an error that names it."""
        if not self._path.exists():
            return []
        try:
            content = json.loads(self._path.read_text())
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']} is not {_FORMAT}")
            infos = [NodeInfo(*item) for item in content["nodes"]]
            self.has_partition_table = bool(content["has_partition_table"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self._path} is damaged ({error}); delete it: it only holds hints"
            ) from error
        self._infos = {info.node_id: info for info in infos}
        return infos

    def remember(self, info: NodeInfo) -> None:
        """Add or replace a node and write the file if that is news."""
        with self._lock:
            if self._infos.get(info.node_id) != info:
                self._infos[info.node_id] = info
                self._write_locked()

    def mark_has_partition_table(self) -> None:
        """Note that this node belongs to a formed cluster."""
        with self._lock:
            if not self.has_partition_table:
                self.has_partition_table = True
                self._write_locked()

    def _write_locked(self) -> None:
        content = {
            "format": _FORMAT,
            "has_partition_table": self.has_partition_table,
            "nodes": [list(info) for info in self._infos.values()],
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".tmp")
        with temporary.open("w") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
