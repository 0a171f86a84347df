"""What a node answers to other nodes when something goes wrong while it serves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.errors import StatusCode
from cluster.plan.reads import AppliedIndexRead, encode_read
from cluster.rpc.gen.cluster.ttypes import ExecuteRequest
from cluster.server import raft_handler
from harness.group_cluster import GROUP, GroupCluster
from iotdb_engine.errors import Closed, Corruption, EngineError


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Corruption("data", b"", "a checksum", "another"), StatusCode.STORAGE_ENGINE_ERROR),
        # a snapshot takes the place of the replica: to be asked again
        (Closed("region 1 is closed"), StatusCode.NO_LEADER),
    ],
)
def test_an_error_of_the_engine_is_told_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: EngineError, status: StatusCode
) -> None:
    def fail(*_: Any) -> bytes:
        raise error

    with GroupCluster(tmp_path, 1) as group:
        leader = group.leader()
        monkeypatch.setattr(raft_handler, "serve_read", fail)
        answer = group.network.handlers[leader.node_id].executeRead(
            ExecuteRequest(groupId=GROUP, plan=encode_read(AppliedIndexRead()), timeoutMs=1000)
        )
        assert (answer.status, answer.definite) == (status, True)
        assert str(error) in answer.message
