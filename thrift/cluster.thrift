/*
 * Services between the nodes of a cluster. Our own: the method names follow 0.13 where the job is the
 * same (sendHeartbeat, startElection, appendEntries, executeNonQueryPlan, checkStatus), the messages
 * are those of cluster/raft/messages.py. Nodes of different releases are told apart by
 * StartUpStatus.protocolVersion. thrift/README.md tells who added which field.
 */
namespace py gen.cluster

/* A node as the others see it. nodeId and incarnation are its identity, the rest may change. */
struct NodeInfo {
  1: required i64 nodeId
  2: required string internalIp
  3: required i32 metaPort
  4: required i32 dataPort
  5: required string rpcAddress
  6: required i32 rpcPort
  /* random text made with the data folder; a node that comes back without its data has another one */
  7: required string incarnation
}

/* ---- Raft ---- */

struct VoteRequest {
  1: required i32 groupId
  2: required i64 frm
  3: required i64 to
  4: required i64 term
  5: required i64 lastIndex
  6: required i64 lastTerm
  7: required bool pre
  8: required bool transfer
}

struct VoteResponse {
  1: required i64 term
  2: required bool granted
  3: required bool pre
  /* false: the receiver has nothing to say (the group is unknown there, or the request was stale) */
  4: required bool answered
}

struct LogEntry {
  1: required i64 term
  2: required i8 kind
  3: required binary data
}

struct AppendEntriesRequest {
  1: required i32 groupId
  2: required i64 frm
  3: required i64 to
  4: required i64 term
  5: required i64 prevIndex
  6: required i64 prevTerm
  7: required list<LogEntry> entries
  8: required i64 commit
  9: required i64 compactTo
}

struct AppendEntriesResponse {
  1: required i64 term
  2: required bool success
  3: required i64 matchIndex
  4: required i64 prevIndex
  5: required i64 hintIndex
  6: required i64 hintTerm
  7: required bool answered
}

struct Heartbeat {
  1: required i32 groupId
  2: required i64 frm
  3: required i64 to
  4: required i64 term
  5: required i64 commit
  6: required i64 readContext
  7: required i64 compactTo
  /* meta group only: the leader's partition table version, and the table for a follower with an older one */
  8: optional i64 tableVersion
  9: optional binary partitionTable
}

struct HeartbeatResponse {
  1: required i32 groupId
  2: required i64 term
  3: required i64 readContext
  4: required i64 lastIndex
  5: required bool answered
  6: optional i64 tableVersion
}

struct HeartbeatBatch {
  /* the sender as it is reachable now */
  1: required NodeInfo sender
  2: required list<Heartbeat> heartbeats
}

struct HeartbeatBatchResponse {
  1: required NodeInfo receiver
  2: required list<HeartbeatResponse> responses
}

struct TimeoutNowRequest {
  1: required i32 groupId
  2: required i64 frm
  3: required i64 to
  4: required i64 term
}

/* ---- Coordinator to leader ---- */

struct ExecuteRequest {
  1: required i32 groupId
  2: required binary plan
  /* what is left of the caller's deadline */
  3: required i32 timeoutMs
}

/* Outcome of a plan or read: status 200 or an error kind of cluster/errors.py. */
struct ExecuteResponse {
  1: required i32 status
  2: optional string message
  /* false: the operation may have taken effect although status is not 200 */
  3: required bool definite
  /* the leader, as far as known, when the receiver is not (0: unknown) */
  4: optional i64 leader
  5: optional binary result
}

/* ---- Start-up check (0.13 StartUpStatus, CheckStatusResponse) ---- */

struct StartUpStatus {
  1: required i32 protocolVersion
  2: required NodeInfo node
  /* key -> value of every setting that must be the same on all nodes */
  3: required map<string, string> settings
  4: required bool hasPartitionTable
}

struct ConfigMismatch {
  1: required string key
  2: required string askerValue
  3: required string responderValue
}

struct CheckStatusResponse {
  1: required NodeInfo responder
  2: required list<ConfigMismatch> mismatches
  /* set when the asker must not start at all, for instance a known identity with a new data folder */
  3: optional string refusal
  4: required list<NodeInfo> knownNodes
}

/* ---- nodetool ---- */

struct MemberStatus {
  1: required i32 groupId
  2: required string role
  3: required i64 term
  4: required i64 leader
  5: required i64 commitIndex
  6: required i64 appliedIndex
  7: required i64 lastIndex
  8: required list<i64> voters
  9: required i64 durableIndex
}

struct NodeStatus {
  1: required NodeInfo node
  2: required list<MemberStatus> members
  3: required list<NodeInfo> knownNodes
  4: optional binary partitionTable
  5: required map<string, string> stats
}

service RaftService {
  HeartbeatBatchResponse sendHeartbeat(1: HeartbeatBatch batch)
  VoteResponse startElection(1: VoteRequest request)
  AppendEntriesResponse appendEntries(1: AppendEntriesRequest request)
  void timeoutNow(1: TimeoutNowRequest request)
  /* runs a plan on the group's leader; a receiver that does not lead answers with the leader it knows */
  ExecuteResponse executeNonQueryPlan(1: ExecuteRequest request)
  /* runs a read request (cluster/query/remote.py) on the group's leader */
  ExecuteResponse executeRead(1: ExecuteRequest request)
}

service MetaGroupService extends RaftService {
  CheckStatusResponse checkStatus(1: StartUpStatus status)
  NodeStatus queryNodeStatus()
}

service DataGroupService extends RaftService {
}
