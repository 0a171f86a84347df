"""Which storage group lives in which data group, and whether every group serves at every node."""

from __future__ import annotations

import itertools
import threading
import time
from typing import NamedTuple

from thrift.Thrift import TException

from cluster.partition.slot_partition_table import SlotPartitionTable
from cluster.partition.slots import slot_of
from harness.node_status import node_status
from harness.process_cluster import Node, ProcessCluster
from harness.wire import StatusError, WireClient

_ERRORS = (OSError, TException, StatusError, EOFError)


def storage_groups(cluster: ProcessCluster, per_group: int) -> dict[int, list[str]]:
    """So many names of storage groups for each data group, by the cluster's partition table."""
    node = cluster.nodes[0]
    table = SlotPartitionTable.decode(node_status(node.meta_port, node.host).partitionTable)
    names: dict[int, list[str]] = {group.group_id: [] for group in table.groups}
    for number in itertools.count():
        if all(len(found) == per_group for found in names.values()):
            return names
        name = f"root.f{number}"
        found = names[table.group_of_slot(slot_of(name, 0)).group_id]
        if len(found) < per_group:
            found.append(name)
    raise AssertionError("unreachable")


class Served(NamedTuple):
    """`seconds` from the start of the probe to the first write and read that both succeeded."""

    node: int
    storage_group: str
    seconds: float
    error: str


class Prober:
    """Writes a row to every group and reads it back, through every node at once."""

    def __init__(self, nodes: list[Node], groups: dict[int, str]) -> None:
        self._nodes = nodes
        self._groups = groups
        self._rows = itertools.count(1)

    def probe(self, patience_s: float = 60.0) -> list[Served]:
        """One result for each node and group; `seconds` is infinite for what never served."""
        began = time.monotonic()
        results: list[Served] = []
        lock = threading.Lock()

        def ask(node: Node, storage_group: str, row: int) -> None:
            served = self._until_served(node, storage_group, row, began, patience_s)
            with lock:
                results.append(served)

        threads = [
            threading.Thread(target=ask, args=(node, name, next(self._rows)), daemon=True)
            for node in self._nodes
            for name in self._groups.values()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(results)

    def _until_served(
        self, node: Node, storage_group: str, row: int, began: float, patience_s: float
    ) -> Served:
        device = f"{storage_group}.probe{node.number}"
        error = ""
        while time.monotonic() - began < patience_s:
            try:
                with WireClient(node.rpc_port, node.host, timeout_s=patience_s) as client:
                    client.insert_row(device, ["v"], row, [float(row)])
                    rows = client.query(f"select v from {device} where time = {row}")
                if rows != [[row, float(row)]]:
                    error = f"wrote {row}, read {rows}"
                    break
                return Served(node.number, storage_group, time.monotonic() - began, error)
            except _ERRORS as failure:
                error = f"{type(failure).__name__}: {failure}"
                time.sleep(0.05)
        return Served(node.number, storage_group, float("inf"), error)
