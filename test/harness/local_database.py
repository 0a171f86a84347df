"""A whole database in one process: the real coordinator, plans and engine, without Raft or network.

Plans go through their byte form to the state machines of the meta group and of one data group, over
an engine in memory. Not thread-safe; to be closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from cluster.config.settings import Settings
from cluster.coordinator.cluster_backend import ClusterBackend
from cluster.coordinator.coordinator import Coordinator
from cluster.coordinator.early_reads import EarlyRound
from cluster.coordinator.groups_access import GroupsAccess
from cluster.errors import ClusterError, Status, StatusCode
from cluster.member.data_machine import DataMachine
from cluster.member.meta_machine import MetaMachine
from cluster.partition.slot_partition_table import SlotPartitionTable
from cluster.plan.codec import decode_plan, decode_result, encode_plan, encode_result
from cluster.plan.plans import Plan, SetPartitionTablePlan, SetUserPlan
from cluster.plan.reads import Consistency, Read, decode_read, encode_read
from cluster.query.result import ResultSet, slice_batch
from cluster.raft.types import Entry, EntryKind, GroupId, LogIndex, NodeId, Term
from cluster.rpc.deadline import Deadline
from cluster.rpc.status import Generation, to_wire
from cluster.server.node_report import NodeReport
from cluster.server.running_queries import RunningQueries
from cluster.server.sessions import Session
from cluster.server.statement_executor import StatementExecutor
from cluster.sql.statements.families import is_query
from cluster.sql.statements.schema import DeleteTimeseries
from harness.sql_cases import Answer, StatementFailedError, version_of
from iotdb_engine import Engine
from iotdb_engine.types import ColumnBatch

T = TypeVar("T")

_META = GroupId(0)
_DEADLINE_S = 3600.0
"""Nothing waits here: only a machine that has no time for the test would come near a deadline."""


class LocalReads:
    """QueryReads where every group is here."""

    def __init__(self, access: LocalAccess, deadline: Deadline) -> None:
        self._access = access
        self._deadline = deadline

    def sync_meta(self) -> None:
        """It is as new as can be."""

    def forget(self, group_id: GroupId) -> None:
        """Nothing was noted."""

    def read(
        self,
        group_id: GroupId,
        request: Callable[[], Read],
        local: Callable[[Any], T],
        decode: Callable[[bytes], T],
    ) -> T:
        """Read here; the request's byte form must hold all of it."""
        read: Read = decode_read(encode_read(request()))
        assert read is not None
        return local(SimpleNamespace(machine=self._access.machine(group_id)))

    def confirm(self, groups: Any, *, early: bool = False) -> EarlyRound | None:
        """Everything is here, unless a test says otherwise."""
        return self._access.confirm(early=early)

    def read_each(self, reads: Any) -> list[Any]:
        """Run reads one after another."""
        return [read() for _, read in reads]


class LocalAccess(GroupsAccess):
    """Applies plans at once; every group is here."""

    def __init__(self, engine: Engine) -> None:
        self.meta = MetaMachine(engine.region(_META))
        self.data: dict[GroupId, DataMachine] = {}
        self._engine = engine
        self._indexes: dict[GroupId, int] = {}
        self.remote_leaders: dict[GroupId, NodeId] = {}
        self.confirm: Callable[..., EarlyRound | None] = lambda *, early: None

    def close(self) -> None:
        """Nothing to stop."""

    def execute_meta(self, plan: Any, deadline: Deadline) -> Any:
        """Apply a meta plan, through the byte forms of plan and outcome."""
        return self._apply(_META, self.meta, plan)

    def execute_data(self, group_id: GroupId, plan: Any, deadline: Deadline) -> Any:
        """Apply a data plan, through the byte forms of plan and outcome."""
        return self._apply(group_id, self.machine(group_id), plan)

    @property
    def leads_meta(self) -> bool:
        """Nobody else could."""
        return True

    def sync_meta(self, deadline: Deadline, level: Consistency = Consistency.STRONG) -> None:
        """It is as new as can be."""

    def answering_nodes(self, deadline: Deadline) -> set[int]:
        """This one."""
        return {1}

    def remote_leader(self, group_id: GroupId) -> NodeId:
        """As a test pretends."""
        return self.remote_leaders.get(group_id, NodeId(0))

    def announce_meta(self, deadline: Deadline) -> None:
        """There is nobody else."""

    def resolve(
        self,
        group_id: GroupId,
        sg_id: int,
        device: str,
        measurements: Sequence[str],
        deadline: Deadline,
    ) -> Any:
        """Look up a device's series."""
        return self.machine(group_id).schema.resolve(sg_id, device, measurements)

    def reads(self, deadline: Deadline, level: Consistency = Consistency.STRONG) -> LocalReads:  # type: ignore[override]
        """Of one query."""
        return LocalReads(self, deadline)

    def in_parallel(self, calls: Any) -> list[Any]:
        """Run calls one after another."""
        results: list[Any] = []
        for call in calls:
            try:
                results.append(call())
            except Exception as error:  # noqa: BLE001 - handed to the caller, as the real one does
                results.append(error)
        return results

    def machine(self, group_id: GroupId) -> DataMachine:
        """The state machine of a data group."""
        machine = self.data.get(group_id)
        if machine is None:
            machine = self.data[group_id] = DataMachine(self._engine.region(group_id))
        return machine

    def _apply(self, group_id: GroupId, machine: Any, plan: Plan) -> Any:
        data = encode_plan(plan)
        machine.check(decode_plan(data))
        index = self._indexes[group_id] = self._indexes.get(group_id, 0) + 1
        outcome = machine.apply(Entry(LogIndex(index), Term(1), EntryKind.PLAN, data))
        return decode_result(encode_result(outcome))


class SmallBatches:
    """A backend whose streams are cut into batches of few rows, to exercise the borders."""

    def __init__(self, backend: ClusterBackend, rows: int) -> None:
        self._backend = backend
        self._rows = rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def read(self, *arguments: Any, **options: Any) -> Iterator[ColumnBatch]:
        """Stream what the backend streams, in smaller pieces."""
        for batch in self._backend.read(*arguments, **options):
            for start in range(0, len(batch.times), self._rows):
                yield slice_batch(batch, start, min(start + self._rows, len(batch.times)))


class LocalDatabase:
    """Executes statements as a server does for one session of `root`.

    Args:
        batch_rows: most rows in a batch of what queries read.
        root_hash: of root's password, for tests that log in.
        generation: of the session's client.
        overrides: properties.
    """

    def __init__(
        self,
        batch_rows: int = 8192,
        root_hash: str = "no hash",
        generation: Generation = Generation.V0_13,
        **overrides: str,
    ) -> None:
        self.settings = settings = Settings.load(None, overrides)
        self._engine = Engine(":memory:")
        self.access = LocalAccess(self._engine)
        self.access.execute_meta(SetUserPlan("root", root_hash), Deadline.after(_DEADLINE_S))
        table = SlotPartitionTable.founding((NodeId(1),), 1)
        self.access.execute_meta(SetPartitionTablePlan(table.encode()), Deadline.after(_DEADLINE_S))
        self.coordinator = Coordinator(
            settings=settings,
            access=self.access,
            meta_state=lambda: self.access.meta.state,
            table=lambda: table,
        )
        real_backend = self.coordinator.backend
        self.coordinator.backend = (  # type: ignore[method-assign]
            lambda *arguments: SmallBatches(real_backend(*arguments), batch_rows)  # type: ignore[assignment,return-value]
        )
        self.executor = StatementExecutor(settings, self.coordinator, self.node_report)
        self.session = Session(1, "root", "+08:00", generation)

    def close(self) -> None:
        """Release the engine."""
        self._engine.close(flush=False)

    def settle(self, *, merged: bool = False) -> None:
        """Store what is in memory, and merge what is stored."""
        for number in self.access.data:
            self._engine.region(number).flush()
            if merged:
                self._engine.compact(number, full=True, wait=True)

    def node_report(self, running: RunningQueries) -> NodeReport:
        """Return what SHOW statements tell of this node."""
        return NodeReport(
            settings=self.settings,
            coordinator=self.coordinator,
            running=running,
            node_id=1,
            engine_stats=self.engine_stats,
        )

    def engine_stats(self) -> Mapping[str, int]:
        """Return the engine's numbers."""
        return self._engine.stats()

    def __enter__(self) -> LocalDatabase:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answer(self, sql: str) -> Answer:
        """Run one statement; StatementFailedError with what the session's client is told."""
        try:
            return self.execute(sql)
        except ClusterError as error:
            code = int(error.status)
            if self.session.generation is Generation.V1:
                code = to_wire(error.status, error.message, Generation.V1).code
            raise StatementFailedError(code, error.message) from error

    def execute(self, sql: str) -> Answer:
        """Run one statement; ClusterError when it fails."""
        deadline = Deadline.after(_DEADLINE_S)
        statement = self.executor.parse(sql, self.session)
        if not is_query(statement):
            statuses = self.executor.update(statement, self.session, deadline)
            _raise_failed(statuses, single=not isinstance(statement, DeleteTimeseries))
            return None
        result = self.executor.query(statement, self.session, deadline)
        if result.column_streams is not None:
            return not_aligned(result)
        rows: list[list[Any]] = []
        for batch in result.batches:
            assert 0 < len(batch.times) <= 8192
            cells = [_cells(batch.columns[number]) for number in result.column_index]
            if not result.ignore_time:
                cells.insert(0, batch.times.tolist())
            rows.extend(list(row) for row in zip(*cells, strict=True))
        return (result.columns if result.ignore_time else ["Time", *result.columns]), rows


def local_database_for(path: Path, batch_rows: int = 8192) -> LocalDatabase:
    """Return a database with a session as a case file wants it."""
    modern = version_of(path) == "V_1_0"
    return LocalDatabase(batch_rows, generation=Generation.V1 if modern else Generation.V0_13)


def not_aligned(result: ResultSet) -> Answer:
    """Return columns beside each other, each with its times, shorter ones padded with nulls."""
    streams = [list(stream) for stream in result.column_streams or ()]
    columns: list[str] = []
    cells: list[list[Any]] = []
    for name, number in zip(result.columns, result.column_index, strict=True):
        columns += ["Time", name]
        cells.append([time for batch in streams[number] for time in batch.times.tolist()])
        cells.append([cell for batch in streams[number] for cell in _cells(batch.columns[0])])
    depth = max(map(len, cells), default=0)
    rows = [[cell[n] if n < len(cell) else None for cell in cells] for n in range(depth)]
    return columns, rows


def _cells(column: Any) -> list[Any]:
    cells = column.values.tolist()
    if column.valid is None:
        return cells
    return [
        cell if valid else None for cell, valid in zip(cells, column.valid.tolist(), strict=True)
    ]


def _raise_failed(statuses: Sequence[Status], *, single: bool) -> None:
    failed = [status for status in statuses if not status.ok]
    if not failed:
        return
    if single and len(statuses) == 1:
        raise ClusterError(failed[0].code, failed[0].message)
    texts = "; ".join(f"{int(status.code)}: {status.message}" for status in failed)
    raise ClusterError(StatusCode.MULTIPLE_ERROR, texts)
