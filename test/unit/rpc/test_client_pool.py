"""RpcChannel and ClientPool: time-outs, dead peers, addresses that change, what is certain."""

from __future__ import annotations

import select
import socket
import threading
import time

import pytest

from cluster.errors import ClusterError, StatusCode
from cluster.rpc.calls import CallCodec
from cluster.rpc.client_pool import ClientPool, RpcChannel, RpcError
from cluster.rpc.deadline import Deadline
from cluster.rpc.gen.client import IClientRPCService
from cluster.rpc.gen.client import ttypes as t
from cluster.rpc.gen.cluster import MetaGroupService, RaftService
from cluster.rpc.gen.cluster import ttypes as c
from cluster.rpc.server import ServerLimits
from harness.joining import join_all

VOTE = c.VoteRequest(1, 2, 3, 4, 5, 6, False, False)


@pytest.fixture
def channels():
    made = []

    def make(address, *, service=MetaGroupService, **options):
        if isinstance(address, int):
            port = address

            def resolve():
                return "127.0.0.1", port
        else:
            resolve = address
        channel = RpcChannel(resolve, service.Client, 1.0, **options)
        made.append(channel)
        return channel

    yield make
    for channel in made:
        channel.close()


@pytest.fixture
def mute():
    """A listener that accepts and never answers: `mute.accept()` gives the server's side."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        yield listener


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


# ---- channel ----


def test_calls_share_a_connection(serve, channels):
    server = serve("meta")
    channel = channels(server.port)
    for _ in range(3):
        assert channel.call("queryNodeStatus", timeout_s=5).node.internalIp == "a"
    assert len(set(server.handler.peers)) == 1
    assert channel.call("startElection", VOTE, timeout_s=5) == c.VoteResponse(4, True, False, True)


def test_a_greeting_goes_first_on_each_connection(serve, channels):
    server = serve("meta")
    met = []

    def greet(ask):
        met.append(ask("queryNodeStatus").node.internalIp)

    channel = channels(server.port, greet=greet)
    for _ in range(3):
        assert channel.call("startElection", VOTE, timeout_s=5).term == 4
    assert met == ["a"]
    channel.post("startElection", VOTE, timeout_s=5)
    assert channel.answer("startElection", timeout_s=5).term == 4


def test_a_connection_may_be_made_before_there_is_something_to_send(serve, channels):
    server = serve("meta")
    met = []
    channel = channels(server.port, greet=lambda ask: met.append(ask("queryNodeStatus")))
    channel.connect(5)
    assert len(met) == 1
    channel.connect(5)
    assert channel.call("startElection", VOTE, timeout_s=5).term == 4
    assert len(met) == 1
    assert len(set(server.handler.peers)) == 1
    nobody = channels(free_port())
    for _ in range(2):
        with pytest.raises(RpcError, match="refused"):
            nobody.connect(5)


def test_nothing_is_sent_to_who_is_not_meant(serve, channels):
    server = serve("meta")
    answers = iter(["a", "b"])

    def greet(ask):
        if ask("queryNodeStatus").node.internalIp != next(answers):
            raise ClusterError(StatusCode.NO_CONNECTION, "somebody else is there")

    channel = channels(server.port, greet=greet)
    assert channel.call("startElection", VOTE, timeout_s=5).term == 4
    server.handler.entered.clear()
    channel._drop()
    with pytest.raises(RpcError, match="somebody else is there") as caught:
        channel.call("startElection", VOTE, timeout_s=5)
    assert caught.value.definitely_not_sent
    assert not server.handler.entered.is_set()


def test_a_connection_is_handed_over_after_the_greeting(serve, channels):
    server = serve("meta")
    met = []
    channel = channels(server.port, greet=lambda ask: met.append(ask("queryNodeStatus")))
    sock = channel.detach(5)
    with sock:
        assert len(met) == 1
        channel.close()
        assert sock.getpeername() == ("127.0.0.1", server.port)
        assert not select.select([sock], [], [], 0)[0]  # still open, and nothing unasked came

    def refuse(ask):
        raise ClusterError(StatusCode.NO_CONNECTION, "somebody else is there")

    with pytest.raises(RpcError, match="somebody else is there"):
        channels(server.port, greet=refuse).detach(5)


def test_a_greeting_without_an_answer_is_not_sent_either(mute, channels):
    """However long the call may take, it is bounded as connecting is."""
    channel = channels(mute.getsockname()[1], greet=lambda ask: ask("queryNodeStatus"))
    with pytest.raises(RpcError, match="in time") as caught:
        channel.call("startElection", VOTE, timeout_s=600)
    assert caught.value.definitely_not_sent


def test_dead_peer_is_found_out_quickly(channels):
    port = free_port()
    channel = channels(port)
    said = f"^no connection to 127.0.0.1:{port}: Connection refused$"
    with pytest.raises(RpcError, match=said) as caught:
        channel.call("queryNodeStatus", timeout_s=600)
    assert caught.value.definitely_not_sent


def test_unknown_address_is_not_sent(channels):
    def resolve():
        raise ClusterError(StatusCode.NO_CONNECTION, "the address is not known yet")

    with pytest.raises(RpcError, match="not known yet") as caught:
        channels(resolve).call("queryNodeStatus", timeout_s=5)
    assert caught.value.definitely_not_sent


def test_time_out_closes_the_connection(mute, channels):
    channel = channels(mute.getsockname()[1])
    begin = time.monotonic()
    with pytest.raises(RpcError, match="in time") as caught:
        channel.call("startElection", VOTE, timeout_s=0.1)
    assert time.monotonic() - begin > 0.05
    assert not caught.value.definitely_not_sent
    side, _ = mute.accept()
    with side:
        side.settimeout(5)
        assert b"startElection" in side.recv(4096)
        assert side.recv(4096) == b""


def test_late_answer_is_not_taken_for_the_next(serve, channels):
    server = serve("meta")
    channel = channels(server.port)
    server.handler.hold.clear()
    with pytest.raises(RpcError):
        channel.call("startElection", VOTE, timeout_s=0.1)
    server.handler.hold.set()
    assert channel.call("queryNodeStatus", timeout_s=5).node.internalIp == "a"


def test_time_out_while_the_answer_trickles(mute, channels):
    channel = channels(mute.getsockname()[1])
    stop = threading.Event()

    def trickle():
        side, _ = mute.accept()
        with side:
            side.sendall(b"\x00\x00\x10\x00")
            while not stop.wait(0.02):
                try:
                    side.sendall(b"\x80")
                except OSError:
                    return

    thread = threading.Thread(target=trickle)
    thread.start()
    with pytest.raises(RpcError, match=r"time|deadline"):
        channel.call("queryNodeStatus", timeout_s=0.3)
    stop.set()
    join_all(thread)


def test_time_out_while_sending(mute, channels):
    channel = channels(mute.getsockname()[1])
    plan = c.ExecuteRequest(1, bytes(64 << 20), 1000)
    with pytest.raises(RpcError) as caught:
        channel.call("executeNonQueryPlan", plan, timeout_s=0.2)
    assert caught.value.definitely_not_sent  # the frame never got through whole


def test_lost_answer_is_not_certain(mute, channels):
    channel = channels(mute.getsockname()[1])

    def hang_up():
        side, _ = mute.accept()
        with side:
            side.recv(4096)

    thread = threading.Thread(target=hang_up)
    thread.start()
    with pytest.raises(RpcError) as caught:
        channel.call("startElection", VOTE, timeout_s=5)
    join_all(thread)
    assert not caught.value.definitely_not_sent


@pytest.mark.parametrize(
    "reply", [b"\x00\x00\x00\x05hello", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x00\x00"]
)
def test_nonsense_for_an_answer(mute, channels, reply):
    channel = channels(mute.getsockname()[1])

    def talk():
        side, _ = mute.accept()
        with side:
            side.recv(4096)
            side.sendall(reply)

    thread = threading.Thread(target=talk)
    thread.start()
    with pytest.raises(RpcError) as caught:
        channel.call("startElection", VOTE, timeout_s=5)
    join_all(thread)
    assert not caught.value.definitely_not_sent


def test_address_is_resolved_anew(serve, channels):
    first, second = serve("meta"), serve("meta")
    second.handler.name = "b"
    port = first.port
    channel = channels(lambda: ("127.0.0.1", port))
    assert channel.call("queryNodeStatus", timeout_s=5).node.internalIp == "a"
    port = second.port
    first.stop()
    assert channel.call("queryNodeStatus", timeout_s=5).node.internalIp == "b"


def test_restarted_peer_costs_no_error(serve, channels):
    first = serve("meta")
    channel = channels(first.port)
    channel.call("queryNodeStatus", timeout_s=5)
    first.stop()
    second = serve("meta", port=first.port)
    assert channel.call("queryNodeStatus", timeout_s=5)
    assert len(second.handler.peers) == 1


def message_of(method, argument) -> bytes:
    return b"".join(CallCodec(RaftService, (method,)).request(method, 5, argument))


def test_messages_go_out_and_come_as_they_are(serve, channels):
    server = serve("meta")
    channel = channels(server.port)
    question = message_of("startElection", VOTE)
    for _ in range(3):
        channel.send_message("startElection", question, Deadline.after(5))
        answer = channel.receive_message("startElection", Deadline.after(5))
        codec = CallCodec(RaftService, ("startElection",))
        assert codec.read_answer(answer) == (5, c.VoteResponse(4, True, False, True))
        assert channel.call("queryNodeStatus", timeout_s=5).node.internalIp == "a"
    assert len(set(server.handler.peers)) == 1


def test_a_message_to_who_was_started_anew_is_lost_once(serve, channels):
    """Also within the second in which the connection is not looked at first."""
    first = serve("meta")
    channel = channels(first.port)
    question = message_of("startElection", VOTE)

    def ask() -> bytes:
        channel.send_message("startElection", question, Deadline.after(5))
        return channel.receive_message("startElection", Deadline.after(5))

    answer = ask()
    first.stop()
    second = serve("meta", port=first.port)
    with pytest.raises(RpcError):
        ask()
    assert ask() == answer
    assert second.server.connection_count() == 1


def test_an_answer_that_came_in_time_may_be_taken_later(serve, channels):
    server = serve("meta")
    channel = channels(server.port)
    for _ in range(2):
        deadline = Deadline.after(0.3)
        channel.send_message("startElection", message_of("startElection", VOTE), deadline)
        assert select.select([channel._sock], [], [], 5)[0]
        while not deadline.expired:
            threading.Event().wait(0.01)
        assert channel.receive_message("startElection", deadline)


def test_a_message_has_until_its_deadline(mute, channels):
    channel = channels(mute.getsockname()[1])
    for _ in range(2):
        channel.send_message("startElection", b"x", Deadline.after(5))
        start = time.monotonic()
        with pytest.raises(RpcError, match="no answer in time"):
            channel.receive_message("startElection", Deadline.after(0.2))
        assert time.monotonic() - start >= 0.2


def test_application_errors(serve, channels):
    channel = channels(serve("meta").port)
    with pytest.raises(RpcError, match="Internal error") as caught:
        channel.call("timeoutNow", c.TimeoutNowRequest(1, 2, 3, 4), timeout_s=5)
    assert not caught.value.definitely_not_sent
    with pytest.raises(RpcError, match="Unknown function") as caught:
        channel.call("appendEntries", c.AppendEntriesRequest(), timeout_s=5)
    assert caught.value.definitely_not_sent
    assert channel.call("queryNodeStatus", timeout_s=5)


def test_arguments_that_cannot_be_encoded_are_a_bug(serve, channels):
    channel = channels(serve("meta").port)
    with pytest.raises(TypeError):
        channel.call("startElection", c.VoteRequest(groupId="one"), timeout_s=5)
    assert channel.call("queryNodeStatus", timeout_s=5)


def test_large_answers(serve, channels):
    port = serve("client").port
    request = t.TSExecuteStatementReq(1, str(20_000_000), 1)
    channel = channels(port, service=IClientRPCService)
    answered = channel.call("executeQueryStatement", request, timeout_s=20)
    assert len(answered.queryResult[0]) == 20_000_000
    small = channels(
        port, service=IClientRPCService, limits=ServerLimits(max_frame_bytes=1_000_000)
    )
    with pytest.raises(RpcError, match="frame length"):
        small.call("executeQueryStatement", request, timeout_s=20)


def test_close_cuts_a_call(serve, channels):
    server = serve("meta")
    server.handler.hold.clear()
    channel = channels(server.port)
    errors = []

    def call():
        try:
            channel.call("startElection", VOTE, timeout_s=30)
        except RpcError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert server.handler.entered.wait(5)
    channel.close()
    join_all(thread)
    assert [error.definitely_not_sent for error in errors] == [False]
    server.handler.hold.set()
    with pytest.raises(RpcError, match="closed") as caught:
        channel.call("queryNodeStatus", timeout_s=5)
    assert caught.value.definitely_not_sent


def test_several_calls_under_way(serve, channels):
    server = serve("meta")
    channel = channels(server.port)
    server.handler.hold.clear()
    channel.post("startElection", VOTE, timeout_s=5)
    channel.post("queryNodeStatus", timeout_s=5)
    channel.post("timeoutNow", c.TimeoutNowRequest(1, 2, 3, 4), timeout_s=5)  # not there
    channel.post("queryNodeStatus", timeout_s=5)
    server.handler.hold.set()
    assert channel.answer("startElection", timeout_s=5) == c.VoteResponse(4, True, False, True)
    assert channel.answer("queryNodeStatus", timeout_s=5).node.internalIp == "a"
    with pytest.raises(RpcError, match="the node answered"):
        channel.answer("timeoutNow", timeout_s=5)
    assert channel.answer("queryNodeStatus", timeout_s=5).node.internalIp == "a"
    assert len(set(server.handler.peers)) == 1
    with pytest.raises(RpcError, match="lost"):
        channel.answer("queryNodeStatus", timeout_s=5)


def test_a_lost_connection_loses_all_calls_under_way(serve, channels):
    server = serve("meta")
    channel = channels(server.port)
    server.handler.hold.clear()
    for _ in range(3):
        channel.post("startElection", VOTE, timeout_s=5)
    with pytest.raises(RpcError, match="in time") as caught:
        channel.answer("startElection", timeout_s=0.1)
    assert not caught.value.definitely_not_sent
    for _ in range(2):
        with pytest.raises(RpcError, match="lost"):
            channel.answer("startElection", timeout_s=5)
    server.handler.hold.set()
    channel.post("queryNodeStatus", timeout_s=5)
    assert channel.answer("queryNodeStatus", timeout_s=5).node.internalIp == "a"
    channel.close()
    with pytest.raises(RpcError, match="closed"):
        channel.post("queryNodeStatus", timeout_s=5)


# ---- pool ----


@pytest.fixture
def pools():
    made = []

    def make(resolve, **options):
        pool = ClientPool(resolve, MetaGroupService.Client, connect_timeout_s=1, **options)
        made.append(pool)
        return pool

    yield make
    for pool in made:
        pool.close()


def test_pool_by_node(serve, pools):
    servers = {1: serve("meta"), 2: serve("meta")}
    servers[2].handler.name = "b"
    pool = pools(lambda node_id: ("127.0.0.1", servers[node_id].port))
    for _ in range(3):
        for node_id, name in ((1, "a"), (2, "b")):
            status = pool.call(node_id, "queryNodeStatus", deadline=Deadline.after(5))
            assert status.node.internalIp == name
    assert [len(set(server.handler.peers)) for server in servers.values()] == [1, 1]
    assert (pool.idle_count(1), pool.idle_count(2), pool.idle_count(3)) == (1, 1, 0)


def test_pool_keeps_few_idle_channels(serve, pools):
    server = serve("meta")
    server.handler.hold.clear()
    pool = pools(lambda node_id: ("127.0.0.1", server.port), max_idle=2)
    threads = [
        threading.Thread(
            target=pool.call,
            args=(1, "startElection", VOTE),
            kwargs={"deadline": Deadline.after(9)},
        )
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    while server.server.connection_count() < 5:
        threading.Event().wait(0.001)
    server.handler.hold.set()
    join_all(*threads)
    assert pool.idle_count(1) == 2


def test_pool_drops_failed_channels(serve, pools):
    server = serve("meta")
    pool = pools(lambda node_id: ("127.0.0.1", server.port))
    server.handler.hold.clear()
    with pytest.raises(RpcError):
        pool.call(1, "startElection", VOTE, deadline=Deadline.after(0.1))
    assert pool.idle_count(1) == 0
    server.handler.hold.set()
    assert pool.call(1, "startElection", VOTE, deadline=Deadline.after(5)).granted


def test_pool_refuses_what_is_too_late(pools):
    pool = pools(lambda node_id: ("127.0.0.1", 1))
    with pytest.raises(RpcError, match="deadline") as caught:
        pool.call(1, "queryNodeStatus", deadline=Deadline.after(0))
    assert caught.value.definitely_not_sent


def test_closed_pool(serve, pools):
    server = serve("meta")
    server.handler.hold.clear()
    pool = pools(lambda node_id: ("127.0.0.1", server.port))
    errors = []

    def call():
        try:
            pool.call(1, "startElection", VOTE, deadline=Deadline.after(30))
        except RpcError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert server.handler.entered.wait(5)
    pool.close()
    join_all(thread)
    assert len(errors) == 1
    server.handler.hold.set()
    with pytest.raises(RpcError, match="stopping"):
        pool.call(1, "queryNodeStatus", deadline=Deadline.after(5))


# ---- deadline ----


def test_deadline():
    deadline = Deadline.after(60)
    assert 59 < deadline.remaining_s() <= 60
    assert 59_000 < deadline.remaining_ms() <= 60_000
    assert not deadline.expired
    assert deadline.earlier(1).remaining_s() <= 1
    assert deadline.earlier(100).remaining_s() <= 60
    passed = Deadline.after(-1)
    assert passed.expired
    assert (passed.remaining_s(), passed.remaining_ms()) == (0, 0)


def test_cutting_a_call_ends_it_and_never_the_next_one(mute):
    cuts = []
    started = threading.Event()
    failures = []
    pool = ClientPool(lambda node_id: mute.getsockname(), MetaGroupService.Client)

    def started_with(cut):
        cuts.append(cut)
        started.set()

    def call():
        try:
            pool.call(1, "startElection", VOTE, deadline=Deadline.after(60), on_start=started_with)
        except RpcError as error:
            failures.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert started.wait(10)
    side, _ = mute.accept()
    with side:
        side.settimeout(5)
        assert b"startElection" in side.recv(4096)
        cuts[0]()
        thread.join(10)
    assert not thread.is_alive()
    assert [error.definitely_not_sent for error in failures] == [False]
    assert pool.idle_count(1) == 0
    pool.close()


def test_cutting_a_call_that_has_ended_leaves_its_connection_alone(serve):
    server = serve("meta")
    cuts = []
    pool = ClientPool(lambda node_id: ("127.0.0.1", server.port), MetaGroupService.Client)
    pool.call(1, "startElection", VOTE, deadline=Deadline.after(5), on_start=cuts.append)
    cuts[0]()
    assert pool.idle_count(1) == 1
    pool.call(1, "startElection", VOTE, deadline=Deadline.after(5))
    assert len(set(server.handler.peers)) <= 1
    pool.close()
