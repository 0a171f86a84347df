"""A tiny language for protocol situations: commands, each with the output that it must have.

A script is text: lines that start with `> ` are commands, what follows is their expected output,
`#` starts a comment. `run_script` returns the script with the output that it really has, so a test
compares two texts, and `python test/scripts/raft/run.py --rewrite` writes the second over the
first.

Commands (N is a node, LIST is 1,2,3):

    group N [election=10] [lease=1] [drift=2]        nodes 1 … N, empty
    node N voters=LIST [learners=LIST] [outgoing=LIST] [log=1,1,2] [term=T] [applied=I]
                                                     one more; `log` is terms, from index 1
    tick N [COUNT]        campaign N                 until it asks for votes
    elect N                                          until it leads; messages are delivered
    propose N DATA        read N       transfer N M  change N voters=LIST [learners=LIST] [force]
    deliver [A>B …]                                  deliver what waits, and what comes of it; with
                                                     pairs, only between those, and the rest waits
    drop [A>B …]                                     what waits is lost
    pending                                          what waits
    hold N                sync N                     N's disk writes nothing; all that was held
    crash N               restart N                  lose what is not durable
    compact N I           install N from=M           M's snapshot, as its state is now
    log                   state [N …]
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.raft.events import (
    ChangeMembership,
    Propose,
    ReadRequest,
    Received,
    SnapshotInstalled,
    Tick,
    TransferLeadership,
)
from cluster.raft.messages import Message
from cluster.raft.types import (
    Entry,
    EntryKind,
    HardState,
    Membership,
    NodeId,
    RaftConfig,
    Role,
    SnapshotMeta,
)
from harness.sim.lockstep import Peer

_SHOWN = {
    "VoteRequest": ("term", "last_index", "last_term", "pre", "transfer"),
    "VoteResponse": ("term", "granted", "pre"),
    "AppendRequest": ("term", "prev_index", "prev_term", "commit"),
    "AppendResponse": ("term", "success", "match_index", "hint_index", "hint_term"),
    "Heartbeat": ("term", "commit"),
    "HeartbeatResponse": ("term",),
    "TimeoutNow": ("term",),
}


class Script:
    """Runs commands against a few peers; each command returns lines of output."""

    def __init__(self) -> None:
        self.peers: dict[int, Peer] = {}
        self.waiting: list[Message] = []
        self._durable: dict[int, tuple[HardState, SnapshotMeta, list[Entry], int]] = {}
        self._configs: dict[int, RaftConfig] = {}
        self._reads = 0

    def run(self, line: str) -> list[str]:
        """Run one command."""
        name, *words = line.split()
        command: Callable[..., list[str]] | None = getattr(self, "do_" + name, None)
        if command is None:
            raise ValueError(f"unknown command {line!r}")
        options = dict(word.split("=", 1) for word in words if "=" in word)
        lines = command([word for word in words if "=" not in word], options)
        self._collect()
        return lines or ["ok"]

    # ---- making groups ----

    def do_group(self, words: list[str], options: dict[str, str]) -> list[str]:
        membership = Membership(tuple(NodeId(i + 1) for i in range(int(words[0]))))
        for node in membership.voters:
            self._make(node, membership, options, [], HardState(0, 0), 0)
        return []

    def do_node(self, words: list[str], options: dict[str, str]) -> list[str]:
        membership = Membership(
            _numbers(options.get("voters", "")),
            _numbers(options.get("outgoing", "")),
            _numbers(options.get("learners", "")),
        )
        terms = _numbers(options.get("log", ""))
        entries = [Entry(i, t, EntryKind.PLAN, b"%d/%d" % (i, t)) for i, t in enumerate(terms, 1)]
        term = int(options.get("term", max(terms, default=0)))
        applied = int(options.get("applied", 0))
        self._make(int(words[0]), membership, options, entries, HardState(term, 0), applied)
        return []

    def _make(
        self,
        node: int,
        membership: Membership,
        options: dict[str, str],
        entries: list[Entry],
        hard_state: HardState,
        applied: int,
    ) -> None:
        self._configs[node] = RaftConfig(
            node,
            heartbeat_ticks=1,
            election_ticks=int(options.get("election", 10)),
            lease_reads=options.get("lease") == "1",
            max_clock_drift_ticks=int(options.get("drift", 2)),
        )
        self._durable[node] = (hard_state, SnapshotMeta(0, 0, membership), entries, applied)
        self._start(node)

    def _start(self, node: int) -> None:
        hard_state, base, entries, applied = self._durable[node]
        self.peers[node] = Peer(
            node,
            base.membership,
            term=hard_state.term,
            vote=hard_state.vote,
            applied=applied,
            config=self._configs[node],
            base=base,
            entries=list(entries),
        )

    def _collect(self) -> None:
        for node, peer in self.peers.items():
            self.waiting.extend(peer.sent)
            peer.sent = []
            if not peer.hold_disk:
                core = peer.core
                self._durable[node] = (
                    HardState(core.term, core.vote),
                    peer.base,
                    list(peer.entries),
                    core.applied,
                )

    # ---- events ----

    def do_tick(self, words: list[str], _: dict[str, str]) -> list[str]:
        for _ in range(int(words[1]) if len(words) > 1 else 1):
            self.peers[int(words[0])].step(Tick())
        return []

    def do_campaign(self, words: list[str], _: dict[str, str]) -> list[str]:
        peer = self.peers[int(words[0])]
        for _ in range(100):
            peer.step(Tick())
            if peer.core.role is Role.ELECTOR:
                return [f"node {words[0]} asks in term {peer.core.term}"]
        return [f"node {words[0]} does not campaign"]

    def do_elect(self, words: list[str], _: dict[str, str]) -> list[str]:
        peer = self.peers[int(words[0])]
        for _ in range(100):
            if peer.core.role is Role.LEADER:
                break
            peer.step(Tick())
            self.do_deliver([], {})
        return [f"node {words[0]} is {peer.core.role.name} in term {peer.core.term}"]

    def do_propose(self, words: list[str], _: dict[str, str]) -> list[str]:
        effects = self.peers[int(words[0])].step(Propose((words[1].encode(),)))
        return self._outcome(effects)

    def do_change(self, words: list[str], options: dict[str, str]) -> list[str]:
        event = ChangeMembership(
            _numbers(options["voters"]),
            _numbers(options.get("learners", "")),
            even_if_behind="force" in words,
        )
        return self._outcome(self.peers[int(words[0])].step(event))

    def do_transfer(self, words: list[str], _: dict[str, str]) -> list[str]:
        return self._outcome(self.peers[int(words[0])].step(TransferLeadership(int(words[1]))))

    def _outcome(self, effects: object) -> list[str]:
        rejected = getattr(effects, "rejected", None)
        proposed = getattr(effects, "proposed", None)
        if rejected is not None:
            return [f"refused: {rejected.reason.value}, leader {rejected.leader}"]
        return [f"entry {proposed.first_index} of term {proposed.term}"] if proposed else []

    def do_read(self, words: list[str], _: dict[str, str]) -> list[str]:
        self._reads += 1
        effects = self.peers[int(words[0])].step(ReadRequest(self._reads))
        if effects.reads:
            return [f"read at {effects.reads[0].index}"]
        if effects.reads_rejected:
            return [f"refused, leader {effects.reads_rejected[0].leader}"]
        return ["waits for a quorum"]

    # ---- messages ----

    def do_deliver(self, words: list[str], _: dict[str, str]) -> list[str]:
        lines = []
        self._collect()
        for _ in range(60):
            batch = [m for m in self.waiting if _matches(m, words)]
            if not batch:
                break
            self.waiting = [m for m in self.waiting if not _matches(m, words)]
            for message in batch:
                if message.to in self.peers:
                    lines.append(describe(message))
                    self.peers[message.to].step(Received(message))
            self._collect()
        return lines or ["nothing waits"]

    def do_drop(self, words: list[str], _: dict[str, str]) -> list[str]:
        kept = [m for m in self.waiting if not _matches(m, words)]
        lost = len(self.waiting) - len(kept)
        self.waiting = kept
        return [f"{lost} lost"]

    def do_pending(self, _: list[str], __: dict[str, str]) -> list[str]:
        return [describe(message) for message in self.waiting]

    # ---- disks ----

    def do_hold(self, words: list[str], _: dict[str, str]) -> list[str]:
        self.peers[int(words[0])].hold_disk = True
        return []

    def do_sync(self, words: list[str], _: dict[str, str]) -> list[str]:
        peer = self.peers[int(words[0])]
        peer.sync()
        peer.hold_disk = False
        return []

    def do_crash(self, words: list[str], _: dict[str, str]) -> list[str]:
        del self.peers[int(words[0])]
        return []

    def do_restart(self, words: list[str], _: dict[str, str]) -> list[str]:
        self._start(int(words[0]))
        return []

    def do_compact(self, words: list[str], _: dict[str, str]) -> list[str]:
        self.peers[int(words[0])].compact(int(words[1]))
        return []

    def do_install(self, words: list[str], options: dict[str, str]) -> list[str]:
        sender = self.peers[int(options["from"])]
        meta = sender.core.snapshot_meta(sender.core.applied)
        peer = self.peers[int(words[0])]
        if not peer.core.wants_snapshot(meta):
            return ["not wanted"]
        peer.step(SnapshotInstalled(meta, sender.core.node_id))
        return [f"at {meta.index} of term {meta.term}"]

    # ---- views ----

    def do_log(self, _: list[str], __: dict[str, str]) -> list[str]:
        lines = []
        for node, peer in sorted(self.peers.items()):
            dots = ["."] * peer.base.index
            terms = " ".join([*dots, *[str(entry.term) for entry in peer.entries]])
            lines.append(f"{node}: {terms} | commit {peer.core.commit}")
        return lines

    def do_state(self, words: list[str], _: dict[str, str]) -> list[str]:
        lines = []
        for node in map(int, words) if words else sorted(self.peers):
            core = self.peers[node].core
            voters = ",".join(map(str, core.membership.voters))
            joint = f" leaving {','.join(map(str, core.membership.outgoing))}"
            lines.append(
                f"{node}: {core.role.name} term {core.term} leader {core.leader} "
                f"commit {core.commit} voters {voters}{joint if core.membership.is_joint else ''}"
            )
        return lines


def describe(message: Message) -> str:
    """Return a message in one line."""
    kind = type(message).__name__
    fields = []
    for name in _SHOWN[kind]:
        value = getattr(message, name)
        if isinstance(value, bool):
            fields.append(name if value else f"not {name}")
        else:
            fields.append(f"{name} {value}")
    entries = getattr(message, "entries", None)
    if entries:
        fields.append("entries " + " ".join(f"{entry.index}/{entry.term}" for entry in entries))
    return f"{message.frm}>{message.to} {kind} " + ", ".join(fields)


def _matches(message: Message, pairs: list[str]) -> bool:
    return not pairs or f"{message.frm}>{message.to}" in pairs


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(",") if word)


def run_script(text: str) -> str:
    """Return the script with the output that it really has."""
    script = Script()
    out: list[str] = []
    for line in text.splitlines():
        if line.startswith("> "):
            out.append(line)
            try:
                out.extend(script.run(line[2:].split("#")[0]))
            except (AssertionError, ValueError) as error:
                out.append(f"{type(error).__name__}: {str(error).splitlines()[0]}")
        elif line.startswith("#") or not line.strip():
            out.append(line)
    return "\n".join(out) + "\n"
