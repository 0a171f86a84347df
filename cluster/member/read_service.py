"""Serves read requests on a group's leader."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from cluster.errors import ClusterError, StatusCode
from cluster.member.data_member import DataMember
from cluster.member.raft_member import RaftMember
from cluster.plan.batch_codec import encode_batches
from cluster.plan.codec import encode_result
from cluster.plan.reads import (
    AggregateRead,
    AppliedIndexRead,
    AwaitAppliedRead,
    MatchDevicesRead,
    MatchSeriesRead,
    NodesRead,
    Read,
    ResolveRead,
    RowsRead,
    encode_aggregates,
)
from cluster.rpc.deadline import Deadline
from cluster.schema.paths import PathPattern
from iotdb_engine.types import ColumnBatch

_MAX_BATCHES_PER_ANSWER = 16


def serve_read(member: RaftMember, read: Read, deadline: Deadline) -> bytes:
    """Confirm leadership (but for AwaitAppliedRead), then answer from the applied state.

    Raises:
        NotLeader: ask the leader.
        ClusterError: the read can't be served.
    """
    if isinstance(read, AwaitAppliedRead):
        member.await_applied(read.index, deadline)
        return encode_result(None)
    member.read_barrier(deadline)
    if isinstance(read, AppliedIndexRead):
        return encode_result(int(member.applied_index))
    if not isinstance(member, DataMember):
        raise ClusterError(
            StatusCode.UNSUPPORTED_OPERATION, f"{type(read).__name__} is for data groups"
        )
    schema, region = member.machine.schema, member.machine.region
    match read:
        case ResolveRead():
            aligned, found = schema.resolve(read.sg_id, read.device, read.measurements)
            return encode_result([aligned, found])
        case MatchSeriesRead():
            pattern = PathPattern(read.pattern, prefix=read.prefix)
            return encode_result(schema.match(pattern, read.sg_ids))
        case MatchDevicesRead():
            pattern = PathPattern(read.pattern, prefix=read.prefix)
            return encode_result(schema.devices(pattern, read.sg_ids))
        case NodesRead():
            pattern = PathPattern(read.pattern, prefix=read.prefix)
            nodes = schema.node_types(pattern, read.sg_ids, read.level)
            return encode_result([[path, kind] for path, kind in nodes.items()])
        case RowsRead():
            return encode_batches(list(islice(_rows(member, read), _MAX_BATCHES_PER_ANSWER)))
        case AggregateRead():
            return encode_aggregates(
                region.aggregate(read.series, read.t_min, read.t_max, slots=read.slots)
            )


def _rows(member: DataMember, read: RowsRead) -> Iterator[ColumnBatch]:
    return member.machine.region.read(
        read.series,
        read.t_min,
        read.t_max,
        slots=read.slots,
        descending=read.descending,
        max_rows=read.max_rows,
    )
