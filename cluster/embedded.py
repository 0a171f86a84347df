"""A whole database inside the calling process: one node's members, log and engine, no sockets.

The parts are those of a cluster's node, put together for one node that is alone: a MetaMember and
the DataMembers of a ring of one, each a group of one that elects itself at once, over the same
durable log and the same engine; Coordinator and client handler on top. What differs: no servers, no
links, no heartbeats (time-outs mean nothing where there is nobody to hear), no leases to watch.

So answers, durability and files are those of a node: an acknowledged write is on the disk, a folder
may be opened here today and by `start-node.sh` tomorrow, or the other way round.
"""

from __future__ import annotations

import logging
import random
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

from cluster.auth.users import hash_password
from cluster.closers import Closers, close_engine
from cluster.config.identity import (
    Identity,
    check_layout,
    load_or_create_identity,
    note_layout,
    stored_layout,
)
from cluster.config.settings import Settings
from cluster.coordinator.coordinator import Coordinator
from cluster.coordinator.forwarder import Forwarder
from cluster.coordinator.groups_access import GroupsAccess
from cluster.errors import ClusterError, StatusCode, Unavailable
from cluster.log.errors import LogLocked
from cluster.log.node_log import LogOptions, NodeLog
from cluster.member.data_groups import DataGroups
from cluster.member.known_nodes import KnownNodesFile
from cluster.member.log_keeper import FLUSH_AFTER_ENTRIES, LogKeeper
from cluster.member.member_deps import MemberDeps
from cluster.member.meta_member import META_GROUP_ID, MetaMember
from cluster.member.peer_link import PeerLinks
from cluster.member.raft_member import RaftMember
from cluster.partition.node_info import NodeInfo
from cluster.partition.slot_partition_table import SlotPartitionTable
from cluster.plan.plans import SetPartitionTablePlan, SetUserPlan
from cluster.raft.events import Tick
from cluster.raft.types import GroupId, NodeId, RaftConfig, Role
from cluster.rpc.client_pool import ClientPool
from cluster.rpc.deadline import Deadline
from cluster.rpc.framing import join_pieces
from cluster.rpc.gen.cluster import DataGroupService
from cluster.rpc.server import Connection, calls_of
from cluster.server.announcer import registration
from cluster.server.client_server import ClientHandler
from cluster.server.continuous_queries import ContinuousQueries
from cluster.server.node_report import NodeReport
from cluster.server.running_queries import QueryOwner, RunningQueries
from cluster.server.sessions import Session
from cluster.server.statement_executor import VERSION
from cluster.threads import ThreadRegistry
from iotdb_engine import Engine, EngineOptions

__all__ = ["MEMORY_PATH", "EmbeddedNode", "FolderInUse"]

logger = logging.getLogger(__name__)

MEMORY_PATH = ":memory:"
_TICK_S = 1.0
_ELECTION_TICKS = 10
_FOUND_S = 30.0
_HOUSEKEEPING_S = 2.0
_FAN_OUT_THREADS = 4
_SEGMENT_BYTES = 16 << 20
_LOG_MAX_BYTES = 256 << 20
_NEVER_SYNC_MS = 3_600_000
_MAX_PLAN_BYTES = 512 << 20
"""Of one tablet, for example: no frames bound it here, but the log's records do."""


class FolderInUse(ClusterError):
    """Another process (or another node in this one) has the folder open."""

    def __init__(self, folder: Path, owner: str) -> None:
        who = owner or "another process"
        super().__init__(
            StatusCode.INTERNAL_SERVER_ERROR,
            f"the database folder {folder} is in use by {who}: one process at a time may have it "
            "open. Close it there, or run a node on the folder (sbin/start-node.sh) and connect "
            "to its port",
        )


class EmbeddedNode:
    """A node without neighbours; thread-safe. Opens in the constructor; `close` it.

    Args:
        folder: of the data, made if missing; ":memory:" for one that is gone after `close`.
        properties: those of `conf/iotdb-cluster.properties` that are to differ from the defaults.

    Raises:
        FolderInUse: see there.
        ConfigError: a property is wrong, or not what the folder was made with, or the folder
            can't be written.
        ClusterError: the folder belongs to a node of a larger cluster, or lacks data.
    """

    def __init__(self, folder: str | Path, properties: Mapping[str, str] | None = None) -> None:
        self._scratch: weakref.finalize[..., EmbeddedNode] | None = None
        in_memory = str(folder) == MEMORY_PATH
        if in_memory:
            # the log is written as everywhere, but never read again
            folder = tempfile.mkdtemp(prefix="iotdb-memory-")
            self._scratch = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.folder = Path(folder).absolute()
        self.properties = dict(properties or {})
        self.threads = ThreadRegistry()
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._closers = Closers()
        self._numbers = 0
        self._lock = threading.Lock()
        try:
            chosen = {**stored_layout(self.folder), **self.properties}
            chosen["data_dir"] = str(self.folder)
            self.settings = Settings.load(None, chosen)
            self._open(in_memory=in_memory)
        except BaseException:
            self.close()
            raise

    # ---- calls ----

    def connect(self) -> Connection:
        """Return a connection without a socket, for `call`; `disconnect` it."""
        with self._lock:
            self._numbers += 1
            number = self._numbers
        return Connection(number, None, ("embedded", 0))

    def cancel(self, connection: Connection) -> None:
        """End the queries that another thread is computing for a connection."""
        session = connection.state.get("session")
        if isinstance(session, Session):
            owner = QueryOwner(session.session_id, session.user)
            self.handler.executor.running.cancel_all(owner)

    def disconnect(self, connection: Connection) -> None:
        """End a connection's session, and the queries it has open."""
        self.handler.sessions.end(connection)

    def call(self, connection: Connection, method: str, *arguments: Any) -> Any:  # noqa: ANN401
        """Run one method of the client protocol, structs in and out, on the calling thread.

        Raises:
            Unavailable: the node was closed, or can't go on.
        """
        if self._stopping.is_set():
            why = f": {self._failure}" if self._failure is not None else ""
            raise Unavailable(f"the database in {self.folder} is closed{why}")
        with calls_of(connection):
            answer = getattr(self.handler, method)(*arguments)
        join_pieces(answer)
        return answer

    def close(self) -> None:
        """Stop, in reverse order of the start; no thread of the node is left. Idempotent."""
        self._stopping.set()
        self._closers.close(self.threads)
        if self._scratch is not None:
            self._scratch()

    def leave_to_parent(self) -> None:
        """In a process that was forked from the node's: nothing here touches its files any more.

        The lock is given up with the parent's end, not only with that of all its children. What
        the engine has to do it does by itself.
        """
        self._log.leave_to_parent()
        if self._scratch is not None:
            self._scratch.detach()

    # ---- start ----

    def _open(self, *, in_memory: bool) -> None:
        node = self.settings.node
        rng = random.SystemRandom()
        self._log = self._open_log(in_memory=in_memory)
        self._closers.add(self._log.close)
        known = KnownNodesFile(self.folder)
        known.load()
        identity = load_or_create_identity(self.folder, self.settings.own_endpoint)
        check_layout(self.folder, self.settings.cluster)
        note_layout(self.folder, self.settings.cluster)
        unit_ns = self.settings.cluster.timestamp_unit_ns
        self.engine = Engine(
            MEMORY_PATH if in_memory else self.folder / "engine",
            EngineOptions(
                memtable_bytes=node.memtable_bytes,
                before_store=bool if in_memory else self._log.sync_written,
                now=lambda: time.time_ns() // unit_ns,
                unit_ns=unit_ns,
            ),
        )
        self._closers.add(lambda: close_engine(self.engine, flush=not in_memory))
        deps = self._deps()
        self._meta = MetaMember(
            seeds=(identity.node_id,),
            config=_alone(identity.node_id),
            log=self._log.group(META_GROUP_ID),
            region=self.engine.region(META_GROUP_ID),
            rng=random.Random(rng.getrandbits(64)),
            deps=deps,
        )
        self._check_alone(self._meta.membership.voters, identity.node_id)
        self._groups = DataGroups(
            node_id=identity.node_id,
            log=self._log,
            engine=self.engine,
            deps=deps,
            threads=self.threads,
            tick_s=_TICK_S,
            raft_config=lambda _favoured: _alone(identity.node_id),
            rng=random.Random(rng.getrandbits(64)),
        )
        self._closers.add(self._groups.stop)
        self._closers.add(self._meta.stop)
        coordinator = self._make_coordinator(identity.node_id)
        self._meta.load_stored_table()
        _lead(self._meta)
        table = self._found(coordinator, identity)
        for member in self._groups.build(table):
            _lead(member)
        known.mark_has_partition_table()
        self._serve(coordinator, identity.node_id)

    def _open_log(self, *, in_memory: bool) -> NodeLog:
        node = self.settings.node
        try:
            return NodeLog(
                self.folder / "raft-log",
                self.threads,
                LogOptions(
                    sync="periodic" if in_memory else node.raft_log_sync,
                    sync_interval_ms=_NEVER_SYNC_MS
                    if in_memory
                    else node.raft_log_sync_interval_ms,
                    segment_bytes=min(node.raft_log_segment_bytes, _SEGMENT_BYTES),
                    cache_bytes=node.raft_log_cache_bytes,
                    ahead="blocks",
                ),
                on_failure=lambda error: self._fail(META_GROUP_ID, error),
            )
        except LogLocked as error:
            raise FolderInUse(self.folder, error.owner) from error

    def _deps(self) -> MemberDeps:
        links = PeerLinks(_nobody, lambda name, run: self.threads.spawn(f"link-{name}", run))
        self._closers.add(links.stop)
        return MemberDeps(
            threads=self.threads,
            links=links,
            make_channel=_nobody,
            append_timeout_s=_TICK_S,
            on_failure=self._fail,
            engine=self.engine,
            tick_s=_TICK_S,
        )

    def _check_alone(self, voters: tuple[NodeId, ...], own: NodeId) -> None:
        if voters != (own,):
            raise ClusterError(
                StatusCode.INTERNAL_SERVER_ERROR,
                f"{self.folder} is the data of one node of a cluster of {len(voters)}: "
                "it can't be opened alone",
            )

    def _make_coordinator(self, node_id: NodeId) -> Coordinator:
        pool = ClientPool(_nobody, DataGroupService.Client)
        self._closers.add(pool.close)
        fan_out = ThreadPoolExecutor(_FAN_OUT_THREADS, thread_name_prefix="fan-out")
        self._closers.add(fan_out.shutdown)
        forwarder = Forwarder(
            node_id=node_id,
            find_member=self._member,
            members_of=lambda _group_id: (node_id,),
            meta_pool=pool,
            data_pool=pool,
            wait=self._stopping.wait,
            max_plan_bytes=_MAX_PLAN_BYTES,
        )
        coordinator = Coordinator(
            settings=self.settings,
            access=GroupsAccess(forwarder, self._meta, pool=fan_out),
            meta_state=lambda: self._meta.state,
            table=lambda: self._meta.table,
        )
        self._closers.add(coordinator.close)
        return coordinator

    def _found(self, coordinator: Coordinator, identity: Identity) -> SlotPartitionTable:
        """Make user and partition table where there are none; return the table."""
        deadline = Deadline.after(_FOUND_S)
        if self._meta.table is None:
            password = self.settings.node.initial_root_password
            # the user first: a table says that founding is done
            coordinator.execute_meta(SetUserPlan("root", hash_password(password)), deadline)
            made = SlotPartitionTable.founding((identity.node_id,), 1)
            coordinator.execute_meta(SetPartitionTablePlan(made.encode()), deadline)
            coordinator.execute_meta(registration(_own_info(self.settings, identity)), deadline)
        table = self._meta.table
        assert table is not None
        return table

    def _serve(self, coordinator: Coordinator, node_id: NodeId) -> None:
        def report(running: RunningQueries) -> NodeReport:
            return NodeReport(
                settings=self.settings,
                coordinator=coordinator,
                running=running,
                node_id=node_id,
                engine_stats=self.engine.stats,
            )

        self.handler = ClientHandler(self.settings, coordinator, report, trusts_callers=True)
        continuous = ContinuousQueries(
            coordinator,
            version=VERSION,
            precision=self.settings.cluster.timestamp_precision,
            leads=lambda: coordinator.leads_meta,
        )
        continuous.start(self.threads)
        self._closers.add(continuous.stop)
        running = self.handler.executor.running
        self.threads.spawn("query-watch", running.watch)
        self._closers.add(running.stop)
        self.threads.spawn("housekeeping", self._keep_house)

    # ---- inside ----

    def _member(self, group_id: GroupId) -> RaftMember | None:
        return self._meta if group_id == META_GROUP_ID else self._groups.get(group_id)

    def _fail(self, group_id: GroupId, error: BaseException) -> None:
        """Nothing is acknowledged any more, rather than a wrong state served."""
        if self._failure is None:
            self._failure = error
            logger.critical("the database in %s stops: group %d: %s", self.folder, group_id, error)
        self._stopping.set()

    def _keep_house(self) -> None:
        keeper = LogKeeper(
            log=self._log,
            members=lambda: [self._meta, *self._groups.all()],
            flush=lambda group_id: self.engine.region(group_id).flush(wait=False),
            segment_bytes=_SEGMENT_BYTES,
            flush_after_bytes=_LOG_MAX_BYTES // 2,
            flush_after_entries=FLUSH_AFTER_ENTRIES,
            max_bytes=_LOG_MAX_BYTES,
        )
        while not self._stopping.wait(_HOUSEKEEPING_S):
            keeper.keep()


def _alone(node_id: NodeId) -> RaftConfig:
    """A core that leads as soon as it is ticked, and confirms reads by itself."""
    return RaftConfig(
        node_id=node_id,
        heartbeat_ticks=2,
        election_ticks=_ELECTION_TICKS,
        lease_reads=False,
        first_campaign_ticks=1,
    )


def _lead(member: RaftMember) -> None:
    """Have a group of one elect its member: as many ticks as its core waits for, all at once."""
    deadline = Deadline.after(_FOUND_S)
    for _ in range(3 * _ELECTION_TICKS):
        if member.role is not Role.FOLLOWER:
            break
        member.step(Tick(1))
    if not member.wait_for(lambda: member.is_leader, deadline.remaining_s()):
        raise Unavailable(f"group {member.group_id} did not become ready in {_FOUND_S:.0f} s")


def _own_info(settings: Settings, identity: Identity) -> NodeInfo:
    """The node as `start-node.sh` would register it, should it take the folder over one day."""
    node = settings.node
    return NodeInfo(
        node_id=identity.node_id,
        internal_ip=node.internal_ip,
        meta_port=node.internal_meta_port,
        data_port=node.internal_data_port,
        rpc_address=node.rpc_address,
        rpc_port=node.rpc_port,
        incarnation=identity.incarnation,
    )


def _nobody(peer: NodeId) -> NoReturn:
    raise AssertionError(f"an embedded node has no peers, and is asked for node {peer}")
