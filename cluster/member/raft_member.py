"""RaftMember: the thread shell around one RaftCore.

One lock per member. Whoever has an event takes the lock, steps the core (`stepper.py`), and routes
the effects (`effect_router.py`) to queues that never block: the log writer, the dispatchers, the
control links, the applier. Nothing waits, and nothing calls out to clients, while the lock is held.
Lock order: member lock, then the locks inside log, links, dispatchers and applier; never the other
way round.

This module is the member's life, what it is composed of, and what others ask of it. What they wait
for is beside it: proposals in `inbox.py`, reads in `read_barrier.py`, peers' requests in
`peer_requests.py`, the row loop's share in `loop_side.py`; snapshots in `snapshots.py`.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from cluster.errors import (
    ClusterError,
    NotLeader,
    StatusCode,
    Unavailable,
)
from cluster.log.node_log import GroupLog
from cluster.member.applier import Applier
from cluster.member.dispatchers import Dispatchers
from cluster.member.effect_router import EffectRouter
from cluster.member.group_machine import GroupMachine
from cluster.member.inbox import Appender
from cluster.member.loop_side import LoopSide
from cluster.member.member_deps import LogKeep, MemberDeps
from cluster.member.news import News
from cluster.member.peer_link import HeartbeatCargo
from cluster.member.peer_requests import PeerRequests
from cluster.member.proposals import Proposals, Waiter
from cluster.member.read_barrier import ReadBarrier
from cluster.member.snapshot_receiver import decode_origin
from cluster.member.snapshots import MemberSnapshots
from cluster.member.stepper import Stepper
from cluster.member.tick_clock import TickClock
from cluster.member.waiting import Reads, Replies
from cluster.plan.reads import Consistency
from cluster.plan.request_id import Requested
from cluster.raft.core import RaftCore
from cluster.raft.effects import Effects, Persist, RoleChanged
from cluster.raft.events import (
    Applied,
    Event,
    Received,
    SnapshotInstalled,
    Unreachable,
)
from cluster.raft.messages import Message
from cluster.raft.types import (
    NO_INDEX,
    NO_NODE,
    GroupId,
    HardState,
    LogIndex,
    Membership,
    NodeId,
    RaftConfig,
    Role,
    SnapshotMeta,
    Term,
)
from cluster.rpc.deadline import Deadline

logger = logging.getLogger(__name__)


class RaftMember:
    """This node's replica of one group.

    Args:
        name: as it appears in thread names and logs, "meta" or "data-<header>".
        membership: that of the group's founding; what the log says of later ones counts for more.
    """

    def __init__(
        self,
        *,
        name: str,
        group_id: GroupId,
        membership: Membership,
        config: RaftConfig,
        log: GroupLog,
        machine: GroupMachine,
        rng: random.Random,
        deps: MemberDeps,
    ) -> None:
        _check_complete(log, machine)
        _continue_snapshot(log, machine)
        self.name = name
        self.group_id = group_id
        self.node_id = config.node_id
        self._log = log
        self.group_machine = machine
        self._deps = deps
        self._election_s = config.election_ticks * deps.tick_s
        base = SnapshotMeta(*log.base, log.base_membership or membership)
        self._core = RaftCore(config, base, log.hard_state, log.metas(), machine.applied_index, rng)
        self._role_listeners: list[Callable[[RoleChanged], None]] = []
        self._role_news = News()
        self._applied_news = News()
        self.heartbeat_cargo: HeartbeatCargo | None = None
        self.awake = threading.Event()
        """Cleared while the group sleeps: then it needs no ticks."""
        self.awake.set()
        self._ended = False
        lock = threading.Lock()
        # what carries effects out
        self._reads = Reads(group_id)
        self._replies = Replies()
        self._dispatchers = self._make_dispatchers()
        self._applier = Applier(
            log,
            machine,
            self._after_apply,
            self._fail,
            lambda run: deps.threads.spawn(f"applier-{name}", run),
        )
        self.snapshots = MemberSnapshots(
            name=name,
            group_id=group_id,
            node_id=config.node_id,
            lock=lock,
            core=self._core,
            applier=self._applier,
            machine=machine,
            step=self.step,
            deps=deps,
        )
        self._stepper = Stepper(
            core=self._core,
            lock=lock,
            router=self._make_router(),
            applier=self._applier,
            ticks=TickClock(deps.tick_s),
            on_broken=self._fail,
            may_campaign=lambda: not self.disk_hangs,
        )
        # what brings events to it
        self._proposals = Proposals(group_id)
        self._appender = Appender(
            group_id=group_id,
            log=log,
            stepper=self._stepper,
            proposals=self._proposals,
            max_bytes=config.max_uncommitted_bytes,
            expect=machine.expect,
        )
        self._barrier = ReadBarrier(
            group_id=group_id,
            stepper=self._stepper,
            machine=machine,
            reads=self._reads,
            applied_news=self._applied_news,
        )
        self.peer_requests = PeerRequests(
            stepper=self._stepper, replies=self._replies, log=log, applier=self._applier
        )
        self.loop_side = LoopSide(self._appender, self._applier)
        log.batch_listener = self._stepper.batch_durable

    # ---- life ----

    def stop(self) -> None:
        """Stop taking part; waiting clients learn that their outcome is unknown. Idempotent."""
        with self._stepper.lock:
            if self._ended:
                return
            self._ended = True
            self._stepper.stop_locked()
            self.awake.set()  # a heartbeat thread that ends may wait for it
            self._appender.stop_locked()
            self._dispatchers.stop()
            self._proposals.fail_all("the node is stopping")
            self._reads.fail_all(Unavailable("the node is stopping"))
            self._replies.end()
        self.snapshots.stop()
        self._applier.stop()
        self._tell_applied()

    # ---- what others ask of a member ----

    @property
    def role(self) -> Role:
        """Present role."""
        return self._core.role

    @property
    def is_stopped(self) -> bool:
        """Whether it takes no part any more; its other properties then tell what was."""
        return self._stepper.is_stopped

    @property
    def leader(self) -> NodeId:
        """The leader as far as known, or 0."""
        return self._core.leader

    @property
    def is_leader(self) -> bool:
        """Whether this member believes to lead."""
        return self._core.role is Role.LEADER

    @property
    def term(self) -> Term:
        """Present term."""
        return self._core.term

    @property
    def membership(self) -> Membership:
        """The membership in force."""
        return self._core.membership

    @property
    def change_is_done(self) -> bool:
        """Whether the membership in force is confirmed, and no change of it is under way."""
        return self._core.change_is_done

    @property
    def applied_index(self) -> LogIndex:
        """The state machine has applied everything up to here."""
        return self.group_machine.applied_index

    @property
    def disk_hangs(self) -> bool:
        """Whether the log has waited for this node's disk for an election time-out or longer."""
        since = self._log.waits_since
        return since > 0 and time.monotonic() - since >= self._election_s

    @property
    def durable_index(self) -> int:
        """The state machine's state is on disk by itself up to here."""
        return self.group_machine.durable_index

    def status(self) -> dict[str, Any]:
        """Return the core's status, for nodetool."""
        with self._stepper.lock:
            return self._core.status()

    def on_role_changed(self, listener: Callable[[RoleChanged], None]) -> None:
        """Call `listener` after each change, from the thread that caused it; it must not block."""
        self._role_listeners.append(listener)

    def tick(self) -> int:
        """Let time pass; called by the HeartbeatThread.

        Returns:
            After how many ticks of time it is to be called again.
        """
        return self._stepper.tick()

    def receive(self, message: Message) -> None:
        """Take an answer from a peer."""
        self._stepper.step(Received(message))

    def unreachable(self, peer: NodeId) -> None:
        """Take note that a message to `peer` was not delivered."""
        self._stepper.step(Unreachable(peer))

    def check_plan(self, plan: object) -> None:
        """Raise ValueError unless this kind of group can apply `plan`."""
        self.group_machine.check(plan)

    def propose(self, payload: bytes, deadline: Deadline, known: Requested | None = None) -> Any:  # noqa: ANN401
        """Append a plan, wait until it is applied here, and return the outcome.

        Args:
            payload: the plan's byte form.
            deadline: of the whole.
            known: what `payload` would be decoded to, if that is at hand.

        Raises:
            NotLeader: not the leader; nothing was appended.
            Overloaded: too much is uncommitted; nothing was appended.
            OutcomeUnknown: appended, and not known to be applied before the deadline.
        """
        return self.await_outcome(self.propose_async(payload, known), deadline)

    def propose_async(self, payload: bytes, known: Requested | None = None) -> Waiter:
        """Have a plan appended; `await_outcome` must follow.

        It is appended with the next write of the log: now where the disk is idle (then it is
        durable here on return), else together with all that comes while the disk is busy.

        Raises:
            NotLeader, Overloaded: as in `propose`.
        """
        return self._appender.put(payload, known)

    def append_meanwhile(self) -> None:
        """Append what waits for the log's next write although one is under way; see `Appender`."""
        self._appender.append_meanwhile()

    def await_outcome(self, waiter: Waiter, deadline: Deadline) -> Any:  # noqa: ANN401
        """Wait for a proposal of `propose_async`; see `propose` for the errors."""
        return self._appender.await_outcome(waiter, deadline)

    def read_barrier(self, deadline: Deadline, level: Consistency = Consistency.STRONG) -> None:
        """Return once a read of the applied state gives what the level promises.

        STRONG: linearizable (thesis 6.4). MID: the state has what the leader, which is heard, told
        to be committed. WEAK: at once.

        Raises:
            NotLeader: only the leader can say, or (MID) it is not heard.
            Unavailable: not confirmed, or not applied, before the deadline.
        """
        self._barrier.wait(deadline, level)

    def readable_index(self) -> LogIndex | None:
        """Return what must be applied to read what a strong read that begins now must see.

        Returns:
            None where only `read_barrier` can tell: it may have to wait.
        """
        stepper = self._stepper
        with stepper.lock:
            return None if stepper.is_stopped else self._core.readable_index(stepper.ticks.late())

    def await_applied(self, index: int, deadline: Deadline) -> None:
        """Return once entry `index` is applied here; raises Unavailable at the deadline."""
        self._barrier.await_applied(index, deadline)

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until `condition` holds, checked at each change of role and each apply."""
        return self._role_news.wait_for(lambda: condition() or self._stepper.is_stopped, timeout_s)

    def maybe_compact(self, keep: LogKeep | None = None) -> None:
        """Drop the log up to what the state machine has stored and nobody is expected to need.

        Args:
            keep: in place of the usual bounds.
        """
        keep = keep or self._deps.log_keep
        with self._stepper.lock:
            if self._stepper.is_stopped:
                return
            point = self._core.compaction_point(keep.live_bytes, keep.absent_bytes)
            up_to = LogIndex(min(point, self.group_machine.durable_index))
            if up_to < self._core.first_index:
                return
            membership = self._core.snapshot_meta(up_to).membership
            self._core.compact(up_to)
            self._log.compact(up_to, membership)

    def step(self, event: Event) -> Effects | None:
        """Step the core and carry out what it wants; return that, or None after `stop`."""
        effects = self._stepper.step(event)
        if type(event) is SnapshotInstalled:
            self._tell_applied()
        return effects

    # ---- what its parts report ----

    def _after_apply(self, outcomes: list[tuple[LogIndex, int, Any]], last: LogIndex) -> None:
        if self._core.is_alone:
            self._log.uncache(last)  # nobody will ask for them, and their memory is warm
        stepper = self._stepper
        with stepper.lock:
            waiting = self._proposals.take_until(last)
            if not stepper.is_stopped:
                stepper.step_locked(Applied(last))
        if waiting:
            by_index = {index: (term, outcome) for index, term, outcome in outcomes}
            for index, term, waiter in waiting:
                entry_term, outcome = by_index.get(index, (0, None))
                if entry_term == term:
                    waiter.deliver(outcome)
                else:
                    # another leader's entry stands there: this one was never committed
                    waiter.fail(NotLeader(self.group_id, self._core.leader))
        self._tell_applied()

    def _tell_applied(self) -> None:
        self._applied_news.tell()
        self._role_news.tell()

    def _role_changed_locked(self, changed: RoleChanged) -> None:
        logger.info(
            "group %d (%s): %s in term %d, leader %s",
            self.group_id,
            self.name,
            changed.role.name,
            changed.term,
            changed.leader or "unknown",
        )
        if changed.role is not Role.LEADER:
            self._dispatchers.stop()
            # whoever leads next decides; a coordinator asks there, by the request's id
            self._proposals.fail_all(f"group {self.group_id}: leadership was lost")
            self._appender.lose_leadership_locked(changed.leader)
            self.group_machine.expect_nothing()
        for listener in self._role_listeners:
            listener(changed)
        self._role_news.tell()

    def _fail(self, error: BaseException) -> None:
        """This replica can't go on: say why and let the node decide."""
        logger.critical(
            "group %d (%s) stops at term %d, applied %d: %s",
            self.group_id,
            self.name,
            self._core.term,
            self.group_machine.applied_index,
            error,
        )
        self._deps.on_failure(self.group_id, error)

    # ---- what it is composed of ----

    def _make_dispatchers(self) -> Dispatchers:
        deps = self._deps
        return Dispatchers(
            name=self.name,
            group_id=self.group_id,
            node_id=self.node_id,
            log=self._log,
            threads=deps.threads,
            make_channel=deps.make_channel,
            call_timeout_s=deps.append_timeout_s,
            couriers=deps.couriers,
            streams=deps.streams,
            current_term=lambda: self._core.term,
            on_response=self.receive,
            on_unreachable=self.unreachable,
            on_failure=self._fail,
        )

    def _make_router(self) -> EffectRouter:
        return EffectRouter(
            log=self._log,
            post=lambda message: self._deps.links.post(self, message),
            replies=self._replies,
            reads=self._reads,
            dispatchers=self._dispatchers,
            applier=self._applier,
            snapshots=self.snapshots,
            awake=self.awake,
            on_role_changed=self._role_changed_locked,
        )


def _check_complete(log: GroupLog, machine: GroupMachine) -> None:
    """Raise ClusterError when there are entries that neither the log nor the state has."""
    if machine.applied_index < log.base[0]:
        raise ClusterError(
            StatusCode.INTERNAL_SERVER_ERROR,
            f"group {log.group_id}: the log starts after entry {log.base[0]} but the engine has "
            f"state only up to {machine.applied_index}: the data folder is incomplete",
        )


def _continue_snapshot(log: GroupLog, machine: GroupMachine) -> None:
    """Start the log anew behind the state, where a kill came between a snapshot's two steps."""
    meta = decode_origin(machine.region.origin)
    if meta is None or meta.index <= log.base[0]:
        return
    terms = {entry.index: entry.term for entry in log.metas()[meta.index - log.first_index :][:1]}
    if terms.get(meta.index) == meta.term:
        return
    hard_state = log.hard_state
    if hard_state.term < meta.term:
        hard_state = HardState(meta.term, NO_NODE)
    log.submit(Persist(hard_state, NO_INDEX, (), meta), lambda: None)
