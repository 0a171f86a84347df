"""One fault run: a cluster, workloads on each of its groups, one nemesis after the other, a tally.

The order is: start; for as long as the run lasts: quiet, inject, hold, heal, probe that every group
serves; then stop the clients, heal, read everything back, check the histories, and count.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.disks import Disk
from harness.faults import nemeses
from harness.faults.nemeses import Grounds, Nemesis
from harness.faults.serving import Prober, Served, storage_groups
from harness.faults.workloads import Accounts, Registers, SetCheck, Sets, Workload
from harness.history import longest_gap_s, now_ns
from harness.linearizable import Verdict, check
from harness.namespaces import Network
from harness.process_cluster import ProcessCluster
from harness.replicas import compare_replicas
from harness.wire import WireClient

SERVES_WITHIN_S = 5.0
_DISK_MB = 700
_SETTINGS = {"raft_log_segment_bytes": str(4 << 20), "memtable_bytes": str(32 << 20)}


@dataclass
class Options:
    """What `test/integration/faults/run.py` takes."""

    folder: Path
    seconds: float = 60.0
    nodes: int = 3
    nemeses: list[str] = field(default_factory=list)
    seed: int = 0
    hold_s: tuple[float, float] = (2.0, 7.0)
    quiet_s: float = 1.5
    settings: dict[str, str] = field(default_factory=dict)


@dataclass
class Fault:
    """One fault that was injected; times on the monotonic clock."""

    nemesis: str
    evidence: str
    began_ns: int
    ended_ns: int = 0
    served: list[Served] = field(default_factory=list)

    def slowest(self) -> Served:
        return max(self.served, key=lambda served: served.seconds)


class Run:
    """See the module; `tally` is the outcome."""

    def __init__(self, options: Options, say: Any = print) -> None:
        self.options = options
        self.faults: list[Fault] = []
        self.workloads: list[Workload] = []
        self.problems: list[str] = []
        self.replicas = 0
        self._say = say
        self._rng = random.Random(options.seed)
        self._chosen, self.skipped = choose(options.nemeses)

    def execute(self) -> dict[str, Any]:
        """Run, check, and return the tally; the folder keeps logs, data and histories."""
        with ExitStack() as stack:
            network = None
            if any(issubclass(kind, nemeses.Partition) for kind in self._chosen):
                network = stack.enter_context(Network(self.options.nodes))
            settings = {**_SETTINGS, **self.options.settings}
            cluster = ProcessCluster(self.options.folder, self.options.nodes, network, **settings)
            if nemeses.ClockStep in self._chosen:
                nemeses.give_clocks(cluster)
            grounds = Grounds(cluster, self._mount_disks(cluster, stack), self._rng)
            stack.callback(cluster.kill_all)
            cluster.start()
            return self._with_cluster(grounds)

    def _mount_disks(self, cluster: ProcessCluster, stack: ExitStack) -> dict[int, Disk]:
        if not any(issubclass(kind, nemeses.OnDisk) for kind in self._chosen):
            return {}
        mounted = {}
        for node in cluster.nodes:
            node.folder.mkdir(parents=True, exist_ok=True)
            image = node.folder / "disk.img"
            mounted[node.number] = Disk(image, node.data_folder, _DISK_MB)
            stack.callback(mounted[node.number].close)
        return mounted

    # ---- while it runs ----

    def _with_cluster(self, grounds: Grounds) -> dict[str, Any]:
        cluster = grounds.cluster
        by_group = storage_groups(cluster, per_group=2)
        prober = Prober(cluster.nodes, {group: names[1] for group, names in by_group.items()})
        self._note_served(prober.probe(), "before the first fault")
        self._make_workloads(cluster, [names[0] for names in by_group.values()])
        first = cluster.nodes[0]
        with WireClient(first.rpc_port, first.host) as client:
            for workload in self.workloads:
                workload.prepare(client)
        began = now_ns()
        for workload in self.workloads:
            workload.start()
        end = time.monotonic() + self.options.seconds
        try:
            for kind in self._kinds():
                time.sleep(self.options.quiet_s)
                if time.monotonic() >= end:
                    break
                self._one_fault(kind(grounds), prober)
        finally:
            lasted_s = (now_ns() - began) / 1e9
            for workload in self.workloads:
                workload.stop()
                self.problems += workload.crashes
            self._save_histories()
        sets = self._read_back(cluster)
        self.replicas, differences = compare_replicas(cluster)
        self.problems += differences
        return self._tally(cluster, sets, lasted_s)

    def _kinds(self) -> Iterator[type[Nemesis]]:
        """Every nemesis once in random order, and again."""
        while True:
            kinds = list(self._chosen)
            self._rng.shuffle(kinds)
            yield from kinds

    def _make_workloads(self, cluster: ProcessCluster, names: list[str]) -> None:
        process = 1
        for number, name in enumerate(names):
            kinds = (Sets, Registers) if number % 2 == 0 else (Sets, Accounts)
            for kind in kinds:
                workload = kind(cluster.nodes, name, process, self.options.seed)
                self.workloads.append(workload)
                process += workload.clients

    def _one_fault(self, nemesis: Nemesis, prober: Prober) -> None:
        began = now_ns()
        try:
            fault = Fault(nemesis.name, nemesis.inject(), began)
            self.faults.append(fault)
            if nemesis.lasts:
                time.sleep(self._rng.uniform(*self.options.hold_s))
        finally:
            nemesis.heal()
        self._note_dead(nemesis)
        fault.ended_ns = now_ns()
        fault.served = prober.probe()
        self._note_served(fault.served, f"after {nemesis.name} ({fault.evidence})")
        slowest = fault.slowest()
        self._say(
            f"{(fault.ended_ns - began) / 1e9:6.1f} s {fault.nemesis:18} {fault.evidence}; "
            f"all served {slowest.seconds:.2f} s after its end"
        )

    def _note_dead(self, nemesis: Nemesis) -> None:
        for node in nemesis.cluster.nodes:
            if node.process is None or node.process.poll() is not None:
                self.problems.append(f"node {node.number} is down after {nemesis.name}")
        nemeses.restart_dead(nemesis.cluster)

    def _note_served(self, served: list[Served], when: str) -> None:
        for late in served:
            if late.seconds > SERVES_WITHIN_S:
                self.problems.append(
                    f"{late.storage_group} at node {late.node} served after {late.seconds:.1f} s "
                    f"{when}: {late.error}"
                )

    # ---- afterwards ----

    def _read_back(self, cluster: ProcessCluster) -> SetCheck:
        checked = SetCheck()
        for node in cluster.nodes:
            for workload in self.workloads:
                if isinstance(workload, Sets):
                    checked.at(node, workload)
        return checked

    def _save_histories(self) -> None:
        timeline = [
            {**vars(fault), "served": [served._asdict() for served in fault.served]}
            for fault in self.faults
        ]
        (self.options.folder / "faults.json").write_text(json.dumps(timeline, indent=1))
        for workload in self.workloads:
            name = f"history-{workload.name}-{workload.storage_group}.jsonl"
            workload.history.save(self.options.folder / name)

    def _tally(self, cluster: ProcessCluster, sets: SetCheck, lasted_s: float) -> dict[str, Any]:
        adders = [workload for workload in self.workloads if isinstance(workload, Sets)]
        operations: Counter[str] = Counter()
        for workload in self.workloads:
            operations.update(workload.history.tally())
        stale_counts = [line for workload in adders for line in workload.stale]
        verdicts, violations = self._check_rows()
        late = [s for fault in self.faults for s in fault.served if s.seconds > SERVES_WITHIN_S]
        self.problems += stale_counts + violations + log_problems(cluster)
        tally = {
            "nodes": self.options.nodes,
            "seconds": round(lasted_s, 1),
            "seed": self.options.seed,
            "faults": dict(Counter(fault.nemesis for fault in self.faults)),
            "skipped": self.skipped,
            "operations": dict(operations),
            "acknowledged": sum(len(d) for s in adders for d in s.acknowledged.values()),
            "lost": len(sets.lost),
            "invented": len(sets.invented),
            "duplicates": len(sets.duplicates),
            "counts_checked": sum(workload.counts for workload in adders),
            "stale_reads": len(stale_counts) + verdicts[Verdict.VIOLATION.value],
            "rows_checked": sum(verdicts.values()),
            "undecided": verdicts[Verdict.UNDECIDED.value],
            "replicas_compared": self.replicas,
            "stuck_groups": len({(s.storage_group, s.node) for s in late}),
            "serves_after_s_max": self._worst_service(),
            "write_gap_s_max": self._gaps(),
            "problems": self.problems,
        }
        tally["ok"] = not (
            tally["lost"]
            or tally["invented"]
            or tally["duplicates"]
            or tally["stale_reads"]
            or tally["undecided"]
            or tally["stuck_groups"]
            or self.problems
        )
        for kind, points in (("lost", sets.lost), ("invented", sets.invented)):
            if points:
                self.problems.append(f"{kind}: {sorted(points)[:10]}")
        (self.options.folder / "tally.json").write_text(json.dumps(tally, indent=1))
        return tally

    def _check_rows(self) -> tuple[Counter[str], list[str]]:
        verdicts: Counter[str] = Counter({verdict.value: 0 for verdict in Verdict})
        problems = []
        for workload in self.workloads:
            if isinstance(workload, Sets):
                continue
            for key, operations in workload.history.by_key().items():
                result = check(operations)
                verdicts[result.verdict.value] += 1
                if result.verdict is not Verdict.LINEARIZABLE:
                    problems.append(f"{key}: {result.verdict.value}: {result.explanation}")
        return verdicts, problems

    def _worst_service(self) -> dict[str, float]:
        worst: dict[str, float] = defaultdict(float)
        for fault in self.faults:
            if fault.served:
                worst[fault.nemesis] = max(worst[fault.nemesis], fault.slowest().seconds)
        return {name: round(seconds, 2) for name, seconds in sorted(worst.items())}

    def _gaps(self) -> dict[str, float]:
        """The longest time in which no client of a group had a write acknowledged, by nemesis.

        Counted from a fault's beginning to five seconds after its end.
        """
        groups: dict[str, list[int]] = defaultdict(list)
        for workload in self.workloads:
            groups[workload.storage_group] += workload.acknowledged_ns
        worst: dict[str, float] = defaultdict(float)
        for fault in self.faults:
            until = fault.ended_ns + int(SERVES_WITHIN_S * 1e9)
            for times in groups.values():
                last = max(times, default=0)
                gap = longest_gap_s(times, fault.began_ns, min(until, max(last, fault.ended_ns)))
                worst[fault.nemesis] = max(worst[fault.nemesis], gap)
        return {name: round(seconds, 2) for name, seconds in sorted(worst.items())}


def choose(names: list[str]) -> tuple[list[type[Nemesis]], dict[str, str]]:
    """The nemeses of these names (all when there are none) that can run here; why others can't.

    Raises:
        ValueError: no nemesis has such a name.
    """
    known = {kind.name: kind for kind in nemeses.ALL}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no nemesis is called {unknown}; there are: {', '.join(known)}")
    chosen = [known[name] for name in names or known]
    reasons = {kind.name: kind.unavailable() for kind in chosen}
    return (
        [kind for kind in chosen if not reasons[kind.name]],
        {name: reason for name, reason in reasons.items() if reason},
    )


_ALARMS = re.compile(r"Traceback|CRITICAL|AssertionError|Fatal Python error")


def log_problems(cluster: ProcessCluster) -> list[str]:
    """Lines of the nodes' own logs that should not be there.

    A node whose disk was full says so and why it stops, at any length.
    """
    found: list[str] = []
    for node in cluster.nodes:
        for path in sorted(node.folder.glob("node.*.log")):
            text = path.read_text(errors="replace")
            if nemeses.DISK_WAS_FULL not in text:
                alarms = [line[:300] for line in text.splitlines() if _ALARMS.search(line)]
                found += [f"{path.parent.name}/{path.name}: {line}" for line in alarms]
    return found
