"""Serves read requests on a group's leader."""

from __future__ import annotations

from cluster.errors import ClusterError, StatusCode
from cluster.member.data_member import DataMember
from cluster.member.raft_member import RaftMember
from cluster.plan.codec import encode_result
from cluster.plan.reads import (
    AggregatesRead,
    AppliedIndexesRead,
    AppliedIndexRead,
    AwaitAppliedRead,
    Consistency,
    LastRead,
    MatchDevicesRead,
    MatchSeriesRead,
    NodesRead,
    Read,
    ResolveRead,
    RowsRead,
    encode_aggregates,
    encode_last,
    encode_rows_page,
)
from cluster.rpc.deadline import Deadline
from cluster.scan.region_reads import aggregates, last_points, rows_page
from cluster.schema.paths import PathPattern


def serve_read(
    member: RaftMember,
    read: Read,
    deadline: Deadline,
    level: Consistency = Consistency.STRONG,
) -> bytes:
    """Make sure of the level (but for AwaitAppliedRead), then answer from the applied state.

    Raises:
        NotLeader: ask the leader.
        ClusterError: the read can't be served.
    """
    if isinstance(read, AwaitAppliedRead):
        member.await_applied(read.index, deadline)
        return encode_result(None)
    if isinstance(read, AppliedIndexesRead):
        raise ValueError("AppliedIndexesRead is for a node, not for one of its members")
    member.read_barrier(deadline, level)
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
            return encode_result(
                schema.match_all(
                    [
                        (PathPattern(pattern, prefix=prefix), sg_ids)
                        for sg_ids, pattern, prefix in read.queries
                    ]
                )
            )
        case MatchDevicesRead():
            pattern = PathPattern(read.pattern, prefix=read.prefix)
            return encode_result(schema.devices(pattern, read.sg_ids))
        case NodesRead():
            pattern = PathPattern(read.pattern, prefix=read.prefix)
            nodes = schema.node_types(pattern, read.sg_ids, read.level)
            return encode_result([[path, kind] for path, kind in nodes.items()])
        case RowsRead():
            page = rows_page(
                region, read.query, read.slots, read.max_rows, read.max_scanned, deadline.check
            )
            return encode_rows_page(page)
        case AggregatesRead():
            return encode_aggregates(aggregates(region, read.query, read.slots, deadline.check))
        case LastRead():
            return encode_last(last_points(region, read.series, read.slots, deadline.check))
