from __future__ import annotations

from collections.abc import Callable

from cluster.member.peer_threads import PeerThreads


class Worker:
    def __init__(self, key: int) -> None:
        self.key = key
        self.stopped = 0

    def run(self) -> None:
        pass

    def stop(self) -> None:
        self.stopped += 1


class Room:
    """Starts as many threads as there is room for; notes them instead of running them."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.started: list[int] = []

    def spawn(self, key: int, _run: Callable[[], None]) -> None:
        if len(self.started) == self.room:
            raise RuntimeError("can't start new thread")
        self.started.append(key)


def test_there_is_one_for_each_until_all_are_stopped() -> None:
    room = Room(9)
    threads = PeerThreads[int, Worker](Worker, room.spawn)
    first, second = threads.to(1), threads.to(2)
    assert first is not None
    assert second is not None
    assert threads.to(1) is first
    assert room.started == [1, 2]
    threads.stop()
    assert (first.stopped, second.stopped) == (1, 1)
    assert threads.to(3) is None
    assert room.started == [1, 2]


def test_one_for_which_there_was_no_room_is_made_when_there_is() -> None:
    room = Room(0)
    threads = PeerThreads[int, Worker](Worker, room.spawn)
    assert threads.to(1) is None
    room.room = 1
    assert threads.to(1) is not None
    assert room.started == [1]
