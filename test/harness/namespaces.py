"""A network namespace for each node, joined by a bridge, whose links can be cut one way.

    with Network(3) as network:             # this thread, and those it starts, are in the hub
        network.address(1)                  # of node 1
        network.prefix(1)                   # what goes before a command that runs in node 1
        network.cut(1, 2)                   # packets from 1 to 2 vanish without a word
        network.heal()

A cut needs no packet filter: the sender's neighbour entry for the receiver gets a hardware address
that nobody has, so the bridge delivers its frames to no one. Established connections lose their
packets as new ones do, as on a wire that is broken in one direction. Namespaces end with this
process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_NOBODY = "02:00:00:00:00:ff"
_HUB = "10.77.0.254"

_libc = ctypes.CDLL(None, use_errno=True)


def unavailable() -> str:
    """Why namespaces can't be used here, or "" when they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "unshare", "nsenter"):
        if shutil.which(tool) is None:
            return f"network namespaces need the command {tool}"
    tried = subprocess.run(
        ["unshare", "--net", "ip", "link", "add", "name", "b", "type", "bridge"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if tried.returncode == 0 else f"no bridge in a namespace: {tried.stderr.strip()}"


def _call(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _enter(descriptor: int) -> None:
    _call(_libc.setns(descriptor, CLONE_NEWNET))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Network:
    """The namespaces of `size` nodes, numbered from 1; enter it in the main thread."""

    def __init__(self, size: int) -> None:
        self._numbers = range(1, size + 1)
        self._holders: dict[int, subprocess.Popen[bytes]] = {}
        self._spaces: dict[int, int] = {}
        self._outside = -1
        self._lock = threading.Lock()
        self._cuts: set[tuple[int, int]] = set()

    def __enter__(self) -> Network:
        self._outside = os.open("/proc/self/ns/net", os.O_RDONLY)
        _call(_libc.unshare(CLONE_NEWNET))
        try:
            self._build()
            self._await_links()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        _enter(self._outside)
        os.close(self._outside)
        for holder in self._holders.values():
            holder.kill()
            holder.wait()
        for descriptor in self._spaces.values():
            os.close(descriptor)
        self._holders.clear()
        self._spaces.clear()

    def _build(self) -> None:
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", "hub", "type", "bridge")
        _run("ip", "address", "add", f"{_HUB}/24", "dev", "hub")
        _run("ip", "link", "set", "hub", "up")
        for number in self._numbers:
            # nothing but a process keeps an unnamed namespace alive while its node is down
            holder = subprocess.Popen(
                ["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"],
                stdout=subprocess.PIPE,
                preexec_fn=_die_with_parent,
            )
            self._holders[number] = holder
            assert holder.stdout is not None
            holder.stdout.readline()
            holder.stdout.close()
            space = f"/proc/{holder.pid}/ns/net"
            self._spaces[number] = os.open(space, os.O_RDONLY)
            port = f"port{number}"
            _run(
                *("ip", "link", "add", port, "type", "veth"),
                *("peer", "name", "net0", "netns", str(holder.pid)),
            )
            _run("ip", "link", "set", port, "master", "hub", "up")
            inside = ("nsenter", f"--net={space}", "ip")
            _run(*inside, "link", "set", "lo", "up")
            _run(*inside, "address", "add", f"{self.address(number)}/24", "dev", "net0")
            _run(*inside, "link", "set", "net0", "up")

    def _await_links(self, timeout_s: float = 20.0) -> None:
        """Wait until every link passes packets: the kernel takes up new ports at its leisure."""
        end = time.monotonic() + timeout_s
        for sender in self._numbers:
            for receiver in self._numbers:
                while sender != receiver and not self.passes(sender, receiver):
                    if time.monotonic() > end:
                        raise AssertionError(f"node {sender} does not reach node {receiver}")

    def address(self, number: int) -> str:
        return f"10.77.0.{number}"

    def prefix(self, number: int) -> list[str]:
        return ["nsenter", f"--net={self._space(number)}", "--"]

    def _space(self, number: int) -> str:
        return f"/proc/{self._holders[number].pid}/ns/net"

    def cut(self, sender: int, receiver: int) -> None:
        """From now on what `sender` sends to `receiver` is lost; the other way is untouched."""
        with self._lock:
            self._cuts.add((sender, receiver))
            self._neighbour(
                sender, "replace", receiver, "lladdr", _NOBODY, "dev", "net0", "nud", "permanent"
            )

    def cut_off(self, numbers: set[int]) -> None:
        """No packet passes, either way, between `numbers` and the other nodes."""
        for inside in numbers:
            for outside in set(self._numbers) - numbers:
                self.cut(inside, outside)
                self.cut(outside, inside)

    def heal(self) -> None:
        with self._lock:
            for sender, receiver in sorted(self._cuts):
                self._neighbour(sender, "delete", receiver, "dev", "net0")
            self._cuts.clear()

    def _neighbour(self, sender: int, verb: str, receiver: int, *rest: str) -> None:
        _run(
            *("nsenter", f"--net={self._space(sender)}"),
            *("ip", "neighbour", verb, self.address(receiver), *rest),
        )

    @contextlib.contextmanager
    def inside(self, number: int) -> Iterator[None]:
        """Sockets that this thread makes meanwhile are node `number`'s."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _enter(self._spaces[number])
            try:
                yield
            finally:
                _enter(here)
        finally:
            os.close(here)

    def passes(self, sender: int, receiver: int, timeout_s: float = 0.3) -> bool:
        """Whether a datagram arrives: tells each direction apart, which a connection can't."""
        with self.inside(receiver):
            receiving = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with self.inside(sender):
            sending = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with receiving, sending:
            receiving.bind((self.address(receiver), 0))
            receiving.settimeout(timeout_s)
            sending.sendto(b"?", receiving.getsockname())
            try:
                return receiving.recv(1) == b"?"
            except TimeoutError:
                return False

    def lost(
        self, links: list[tuple[int, int]], expected: set[tuple[int, int]]
    ) -> set[tuple[int, int]]:
        """The links over which a datagram does not arrive.

        It is waited for longer where it is expected to: on a busy machine it takes its time.
        """
        return {
            link
            for link in links
            if not self.passes(*link, timeout_s=0.15 if link in expected else 5.0)
        }
