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
  /* what the sender knows to be committed, and the term of that entry */
  9: required i64 commit
  10: required i64 commitTerm
}

struct VoteResponse {
  1: required i64 term
  2: required bool granted
  3: required bool pre
  /* false: the receiver has nothing to say (the group is unknown there, or the request was stale) */
  4: required bool answered
  5: required i64 commit
  6: required i64 commitTerm
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
  /* an invitation to sleep: the group has nothing to do (cluster/raft/quiescence.py) */
  10: optional bool quiesce
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
  /* the follower has stopped its election timer */
  7: optional bool asleep
}

struct HeartbeatBatch {
  /* the sender as it is reachable now */
  1: required NodeInfo sender
  2: required list<Heartbeat> heartbeats
  /* random, names this run of the sender: what slept with an earlier one has to wake up */
  3: optional i64 process
}

struct HeartbeatBatchResponse {
  1: required NodeInfo receiver
  2: required list<HeartbeatResponse> responses
  3: optional i64 process
}

struct TimeoutNowRequest {
  1: required i32 groupId
  2: required i64 frm
  3: required i64 to
  4: required i64 term
}

/* ---- Snapshots: a leader streams its state machine to a follower ---- */

/*
 * An offer (data unset), a piece of records, or the end (done). Every request says what it is about, so
 * that either side may lose the connection or be started anew at any point.
 */
struct SnapshotRequest {
  1: required i32 groupId
  2: required i64 frm
  3: required i64 to
  4: required i64 term
  /* names the state that is streamed; a receiver that has a part of it goes on from there */
  5: required string source
  /* what the state covers: applied index, its term, the membership (cluster/raft/membership.py) */
  6: required i64 index
  7: required i64 indexTerm
  8: required binary membership
  /* of the exporter's last flush */
  9: required i64 sequence
  /* the records of this piece follow this key */
  10: optional binary afterKey
  /* (u32 key length, u32 value length, key, value)… big-endian, in key order */
  11: optional binary data
  /* CRC-32C of data */
  12: optional i64 dataCrc
  /* the end: what must be there, with the CRC-32C over all keys and values in order */
  13: optional bool done
  14: optional i64 records
  15: optional i64 totalBytes
  16: optional i64 totalCrc
}

struct SnapshotResponse {
  /* SnapshotVerdict of cluster/member/snapshot_install.py */
  1: required i32 verdict
  2: required i64 term
  /* the last key that is there */
  3: optional binary lastKey
  4: optional string message
}

/* ---- Comparing replicas ---- */

struct DigestLeaf {
  1: required binary label
  2: required i64 count
  3: required binary digest
  /* the label for people */
  4: required string text
}

/* Digest of a replica's state at the entry `index`, a DigestPlan; `applied` is below it when it is not there yet. */
struct DigestAnswer {
  1: required bool known
  2: required i64 applied
  3: optional binary root
  4: optional i64 leafCount
  5: optional list<DigestLeaf> leaves
}

/* ---- Coordinator to leader ---- */

struct ExecuteRequest {
  1: required i32 groupId
  2: required binary plan
  /* what is left of the caller's deadline */
  3: required i32 timeoutMs
  /* reads: Consistency of cluster/plan/reads.py; unset: strong, by the leader only */
  4: optional i32 consistency
  /* the sender does not reach the leader: a receiver that does not lead passes it on, once */
  5: optional bool relay
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
  /* of the first entry that the log still has, or would have */
  10: required i64 firstIndex
}

struct NodeStatus {
  1: required NodeInfo node
  2: required list<MemberStatus> members
  3: required list<NodeInfo> knownNodes
  4: optional binary partitionTable
  5: required map<string, string> stats
}

struct VerifyAnswer {
  /* as JSON; docs/engine.md */
  1: optional string report
  /* why there is none */
  2: optional string refusal
}

service RaftService {
  HeartbeatBatchResponse sendHeartbeat(1: HeartbeatBatch batch)
  VoteResponse startElection(1: VoteRequest request)
  /* of several groups at once; answers in the order of the requests, when all are durable */
  list<VoteResponse> startElections(1: list<VoteRequest> requests)
  AppendEntriesResponse appendEntries(1: AppendEntriesRequest request)
  /* small ones of several groups at once, as startElections */
  list<AppendEntriesResponse> appendEntriesOfGroups(1: list<AppendEntriesRequest> requests)
  void timeoutNow(1: TimeoutNowRequest request)
  SnapshotResponse installSnapshot(1: SnapshotRequest request)
  /* the leaves with labels above afterLabel, at most limit (0: only the digest of all) */
  DigestAnswer queryDigest(1: i32 groupId, 2: i64 index, 3: binary afterLabel, 4: i32 limit, 5: i32 timeoutMs)
  /* runs a plan on the group's leader; a receiver that does not lead answers with the leader it knows */
  ExecuteResponse executeNonQueryPlan(1: ExecuteRequest request)
  /* runs a read request (cluster/query/remote.py) on the group's leader */
  ExecuteResponse executeRead(1: ExecuteRequest request)
}

service MetaGroupService extends RaftService {
  CheckStatusResponse checkStatus(1: StartUpStatus status)
  NodeStatus queryNodeStatus()
  /* checks everything that this node has stored, while it is used: may take minutes */
  VerifyAnswer verifyData()
}

service DataGroupService extends RaftService {
}
