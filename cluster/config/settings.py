"""The settings of a node: each key declared once, with default, unit and meaning.

`ClusterWide` is what start-up compares across nodes, `NodeLocal` what each node may choose. Keys
keep their 0.13 spelling where 0.13 has them. conf/iotdb-cluster.properties and
docs/configuration.md are written from these declarations (`python -m cluster.config.render`); a
test proves that they agree.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from cluster.config.memory import default_memtable_bytes, memory_bytes
from cluster.config.properties import PropertiesError, parse_properties

PROPERTIES_FILE = "iotdb-cluster.properties"
HASH_SALT = 2333

_JAVA_ONLY_KEYS = frozenset(
    """
    cluster_info_public_port open_server_rpc_port multi_raft_factor
    max_concurrent_client_num catch_up_timeout_ms use_batch_in_catch_up min_num_of_logs_in_mem
    max_num_of_logs_in_mem raft_log_memory_proportion log_deletion_check_interval_second
    is_use_async_server is_use_async_applier is_enable_raft_log_persistence
    flush_raft_log_threshold raft_log_buffer_size max_raft_log_index_size_in_memory
    uncommitted_raft_log_num_for_reject_threshold unapplied_raft_log_num_for_reject_threshold
    max_raft_log_persist_data_size_per_file max_number_of_persist_raft_log_files
    max_persist_raft_log_number_on_disk enable_use_persist_log_on_disk_to_catch_up
    max_number_of_logs_per_fetch_on_disk max_read_log_lag max_sync_log_lag
    max_client_pernode_permember_number max_idle_client_pernode_permember_number
    wait_client_timeout_ms
    """.split()
)


class ConfigError(ValueError):
    """A setting is wrong; the message names the key, its value, and what is allowed."""


class Endpoint(NamedTuple):
    """Host and internal meta port of a seed; compared as text, lower case."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


# ---- parsing of single values ----


def _int(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"a whole number from {low} to {high}") from None
        if not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return parse


def _bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.lower() == "true"


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in {word.lower() for word in allowed}:
            raise ValueError(" or ".join(allowed))
        return next(word for word in allowed if word.lower() == text.lower())

    return parse


def _text(text: str) -> str:
    if not text:
        raise ValueError("a text that is not empty")
    return text


def parse_endpoints(text: str) -> tuple[Endpoint, ...]:
    """Read a comma list of host:port; raises ValueError saying what is allowed."""
    endpoints = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        host, separator, port = item.rpartition(":")
        if not separator or not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError("a comma list of host:meta_port")
        endpoints.append(Endpoint(host.lower(), int(port)))
    if len(set(endpoints)) != len(endpoints):
        raise ValueError("a comma list of host:meta_port without repetition")
    return tuple(endpoints)


_port = _int(0, 65535)
_ms = _int(1, 86_400_000)
_bytes = _int(1 << 16, 1 << 40)
_INFER = _one_of("BOOLEAN", "INT32", "INT64", "FLOAT", "DOUBLE", "TEXT")


def _key(
    default: Any,  # noqa: ANN401
    parse: Callable[[str], Any],
    unit: str,
    meaning: str,
    shown: str | None = None,
) -> Any:  # noqa: ANN401
    """Declare a setting; `shown` is its default as text where str() would not do."""
    return field(
        default=default,
        metadata={"parse": parse, "unit": unit, "meaning": meaning, "shown": shown},
    )


@dataclass(frozen=True)
class ClusterWide:
    """What must be the same on all nodes; compared at start-up."""

    seed_nodes: tuple[Endpoint, ...] = _key(
        (),
        parse_endpoints,
        "host:meta_port list",
        "The nodes that form the cluster at first. Unset: this node alone.",
        shown="",
    )
    cluster_name: str = _key(
        "default", _text, "text", "Guards against mixing clusters: all nodes have the same name."
    )
    default_replica_num: int = _key(
        0,
        _int(1, 1000),
        "count",
        "Number of replicas of each data group. Unset: 3, or the number of seed nodes if fewer.",
        shown="",
    )
    enable_partition: bool = _key(
        False,
        _bool,
        "bool",
        "Spread a storage group's points over data groups by time. Can't be changed later: points "
        "would be looked for elsewhere, so a data folder with another value is refused.",
    )
    partition_interval: int = _key(
        604800,
        _int(1, 1 << 40),
        "s",
        "Length of a time partition when enable_partition is true. Can't be changed later, either.",
    )
    lease_reads: bool = _key(
        True,
        _bool,
        "bool",
        "Leaders answer strong reads without a round trip while their lease holds; "
        "docs/consensus.md states the clock bound. false: a quorum confirms every read.",
    )
    timestamp_precision: str = _key(
        "ms",
        _one_of("ms", "us", "ns"),
        "ms, us or ns",
        "Unit of timestamps. Can't be changed later: a data folder of another unit is refused.",
    )

    def as_map(self) -> dict[str, str]:
        """Return property name → canonical text, as nodes compare it."""
        found = {item.name: str(getattr(self, item.name)) for item in fields(self)}
        found["seed_nodes"] = ",".join(sorted(map(str, self.seed_nodes)))
        found["hash_salt"] = str(HASH_SALT)
        return found

    @property
    def timestamp_unit_ns(self) -> int:
        """Nanoseconds of one step of a timestamp."""
        return {"ms": 1_000_000, "us": 1000, "ns": 1}[self.timestamp_precision]


@dataclass(frozen=True)
class NodeLocal:
    """What each node may choose for itself."""

    data_dir: Path = _key(
        Path("data"),
        Path,
        "path",
        "Folder of everything that this node stores. A relative one begins where start-node.sh "
        "and stop-node.sh are called.",
    )
    rpc_address: str = _key(
        "127.0.0.1",
        _text,
        "ip or name",
        "Address that clients connect to. Loopback only, unless set.",
    )
    rpc_port: int = _key(6667, _port, "port", "Port that clients connect to.")
    internal_ip: str = _key(
        "127.0.0.1", _text, "ip or name", "Address that the other nodes connect to."
    )
    internal_meta_port: int = _key(9003, _port, "port", "Port of the meta group.")
    internal_data_port: int = _key(40010, _port, "port", "Port of the data groups.")
    heartbeat_interval_ms: int = _key(200, _ms, "ms", "A leader's heartbeats are that far apart.")
    election_timeout_ms: int = _key(
        1200,
        _ms,
        "ms",
        "A follower that hears nothing for this time, up to twice as long by chance, campaigns. At "
        "least three times heartbeat_interval_ms; more than twice where lease_reads is false.",
    )
    group_sleep_after_ms: int = _key(
        10_000,
        _int(0, 86_400_000),
        "ms",
        "A data group in which nothing happened for so long exchanges no heartbeats any more; its "
        "nodes watch one another instead. 0: groups never sleep.",
    )
    connection_timeout_ms: int = _key(
        2000, _ms, "ms", "Time to connect to another node, and for its answer to short calls."
    )
    write_operation_timeout_ms: int = _key(20000, _ms, "ms", "Overall time of a client's write.")
    consistency_level: Literal["strong", "mid", "weak"] = _key(
        "strong",
        _one_of("strong", "mid", "weak"),
        "strong, mid or weak",
        "What queries through this node may miss. strong: nothing that was acknowledged before. "
        "mid: what a replica that hears its leader lacks, at most the last two election time-outs. "
        "weak: any replica answers, however far behind.",
    )
    session_timeout_threshold: int = _key(
        0,
        _int(0, 1 << 40),
        "ms",
        "A session without a request for this long is closed; its client logs in again. 0: never.",
    )
    rpc_thrift_compression_enable: bool = _key(
        False,
        _bool,
        "bool",
        "Kept for files of 0.13. Compact and binary clients are told apart by their first message "
        "and both are served, whatever this says.",
    )
    query_timeout_threshold: int = _key(
        60000, _ms, "ms", "Time of a query whose client names none."
    )
    node_log_bytes: int = _key(
        16 << 20,
        _bytes,
        "bytes",
        "Size above which a node in the background (-d) begins a new data_dir/node.log; the older "
        "ones are node.log.1, the newest, and so on.",
    )
    node_log_older_files: int = _key(
        7, _int(0, 1000), "files", "How many older files of node.log are kept."
    )
    raft_log_sync: Literal["always", "periodic"] = _key(
        "always",
        _one_of("always", "periodic"),
        "always or periodic",
        "always: a write is on a quorum's disks before it is acknowledged. periodic: power loss on "
        "a quorum may lose the last raft_log_sync_interval_ms.",
    )
    raft_log_sync_interval_ms: int = _key(
        100, _ms, "ms", "Time between syncs when raft_log_sync is periodic."
    )
    raft_log_segment_bytes: int = _key(
        64 << 20, _int(1 << 12, 1 << 30), "bytes", "Size of a file of the Raft log."
    )
    raft_log_keep_bytes: int = _key(
        256 << 20,
        _bytes,
        "bytes",
        "Log that a group keeps for a member that is behind; one further behind gets a snapshot.",
    )
    raft_log_keep_absent_bytes: int = _key(
        64 << 20,
        _int(0, 1 << 40),
        "bytes",
        "The same for a member that is not heard from. At most raft_log_keep_bytes.",
    )
    raft_log_max_bytes: int = _key(
        4 << 30,
        _bytes,
        "bytes",
        "Bound of all log files. Above it groups drop what they have stored otherwise, whoever "
        "lacks it. At least two segments are kept.",
    )
    snapshot_rate_bytes_per_s: int = _key(
        0,
        _int(0, 1 << 40),
        "bytes/s",
        "Highest rate at which a leader sends a snapshot to one member; it is slower while the "
        "node has other work. 0: no such bound.",
    )
    raft_log_cache_bytes: int = _key(
        64 << 20, _bytes, "bytes", "Recent log entries kept in memory, over all groups."
    )
    keep_cores_awake: Literal["auto", "always", "never"] = _key(
        "auto",
        _one_of("auto", "always", "never"),
        "auto, always or never",
        "Whether idle cores of this machine look for work instead of halting while requests come "
        "in a stream (docs/operating.md). auto: on a virtual machine of at most 8 cores that Linux "
        "halts by haltpoll.",
    )
    memtable_bytes: int = _key(
        0,
        _bytes,
        "bytes",
        "Points kept in memory before they are flushed, all groups; flushing begins at half of it. "
        "Unset: an eighth of the memory that this machine or container has, 64 MiB to 3 GiB.",
        shown="",
    )
    read_cache_bytes: int = _key(
        256 << 20, _bytes, "bytes", "Decoded pages kept for later queries, all groups."
    )
    enable_auto_create_schema: bool = _key(
        True, _bool, "bool", "Create storage groups and series on their first insert."
    )
    default_storage_group_level: int = _key(
        1, _int(1, 100), "nodes", "Depth below root of storage groups created on insert."
    )
    boolean_string_infer_type: str = _key("BOOLEAN", _INFER, "type", "Type of true and false.")
    integer_string_infer_type: str = _key("FLOAT", _INFER, "type", "Type of whole numbers.")
    long_string_infer_type: str = _key("DOUBLE", _INFER, "type", "Type of large whole numbers.")
    floating_string_infer_type: str = _key("FLOAT", _INFER, "type", "Type of decimal numbers.")
    nan_string_infer_type: str = _key("DOUBLE", _INFER, "type", "Type of NaN.")
    float_precision: int = _key(
        2,
        _int(0, 16),
        "decimals",
        "What RLE and TS_2DIFF keep of FLOAT and DOUBLE where no MAX_POINT_NUMBER says it.",
    )
    udf_dir: str = _key(
        "",
        _text,
        "path",
        "Folder of Python modules with functions and triggers of users; empty: switched off "
        "(docs/udf.md, docs/triggers.md).",
    )
    udf_timeout_ms: int = _key(
        10_000, _int(10, 3_600_000), "ms", "Longest that a function or trigger takes for a batch."
    )
    initial_root_password: str = _key(
        "root", _text, "text", "Password of the user root when the cluster is founded."
    )
    rpc_max_concurrent_client_num: int = _key(
        10_000,
        _int(1, 65535),
        "connections",
        "Client connections; more are closed at once. Fewer where the process may not open so many "
        "files (ulimit -Hn).",
    )
    internal_max_connections: int = _key(
        1024, _int(16, 65535), "connections", "Connections of other nodes, on each internal port."
    )
    thrift_max_frame_size: int = _key(
        64 << 20, _int(1 << 16, 512 << 20), "bytes", "Largest request; larger ones are refused."
    )
    config_check_interval_ms: int = _key(
        500, _ms, "ms", "Pause between rounds of the start-up check."
    )


@dataclass(frozen=True)
class Settings:
    """All settings of a node.

    Attributes:
        ignored: known keys of the Java original that have no meaning here, as found.
    """

    cluster: ClusterWide
    node: NodeLocal
    ignored: tuple[str, ...] = ()

    @property
    def own_endpoint(self) -> Endpoint:
        """This node as it would be named in a seed list."""
        return Endpoint(self.node.internal_ip.lower(), self.node.internal_meta_port)

    @classmethod
    def load(cls, conf_dir: Path | None, overrides: Mapping[str, str]) -> Settings:
        """Read conf_dir/iotdb-cluster.properties (none: defaults); overrides win.

        Raises:
            ConfigError: an unknown key, a bad value, or settings that contradict one another.
        """
        values: dict[str, str] = {}
        if conf_dir is not None:
            path = conf_dir / PROPERTIES_FILE
            try:
                # some editors begin a file with a mark of its encoding
                values.update(parse_properties(path.read_text(encoding="utf-8-sig")))
                cls.from_values(values)
            except OSError as error:
                raise ConfigError(f"{path} can't be read: {error.strerror}") from error
            except UnicodeDecodeError as error:
                raise ConfigError(f"{path} is not UTF-8: {error}") from error
            except (PropertiesError, ConfigError) as error:
                raise ConfigError(f"{path}: {error}") from error
        for key, text in overrides.items():
            try:
                cls.from_values({key: text})
            except ConfigError as error:
                raise ConfigError(f"-D: {error}") from error
        values.update(overrides)
        settings = cls.from_values(values)
        settings.validate()
        return settings

    @classmethod
    def from_values(cls, values: Mapping[str, str]) -> Settings:
        """Build from property texts; an empty text means the default."""
        cluster: dict[str, Any] = {}
        node: dict[str, Any] = {}
        ignored = []
        for key, text in values.items():
            for target, owner in ((cluster, ClusterWide), (node, NodeLocal)):
                declared = _declared(owner).get(key)
                if declared is not None:
                    if text:
                        target[key] = _parsed(declared, key, text)
                    break
            else:
                if key not in _JAVA_ONLY_KEYS:
                    raise ConfigError(_unknown(key))
                ignored.append(key)
        if "memtable_bytes" not in node:
            node["memtable_bytes"] = default_memtable_bytes(memory_bytes())
        local = NodeLocal(**node)
        if not cluster.get("seed_nodes"):
            cluster["seed_nodes"] = (Endpoint(local.internal_ip.lower(), local.internal_meta_port),)
        cluster.setdefault("default_replica_num", min(3, len(cluster["seed_nodes"])))
        return cls(ClusterWide(**cluster), local, tuple(ignored))

    def with_connections(self, clients: int, nodes: int) -> Settings:
        """Return the same with other limits of connections."""
        node = replace(
            self.node, rpc_max_concurrent_client_num=clients, internal_max_connections=nodes
        )
        return replace(self, node=node)

    def validate(self) -> None:
        """Check settings against one another; raises ConfigError naming the keys."""
        node, cluster = self.node, self.cluster
        if node.election_timeout_ms <= 2 * node.heartbeat_interval_ms:
            raise ConfigError(
                f"election_timeout_ms ({node.election_timeout_ms}) must be more than twice "
                f"heartbeat_interval_ms ({node.heartbeat_interval_ms})"
            )
        # a lease is shorter than the time-out, and must outlast the pause between heartbeats
        if cluster.lease_reads and node.election_timeout_ms < 3 * node.heartbeat_interval_ms:
            raise ConfigError(
                f"election_timeout_ms ({node.election_timeout_ms}) must be at least three times "
                f"heartbeat_interval_ms ({node.heartbeat_interval_ms}), or lease_reads be false"
            )
        ports = {
            name: getattr(node, name)
            for name in ("rpc_port", "internal_meta_port", "internal_data_port")
        }
        for one, other in itertools.combinations(ports, 2):
            if ports[one] and ports[one] == ports[other]:
                raise ConfigError(f"{one} ({ports[one]}) and {other} ({ports[other]}) must differ")
        if node.raft_log_keep_absent_bytes > node.raft_log_keep_bytes:
            raise ConfigError(
                f"raft_log_keep_absent_bytes ({node.raft_log_keep_absent_bytes}) must not be more "
                f"than raft_log_keep_bytes ({node.raft_log_keep_bytes})"
            )
        if cluster.default_replica_num > len(cluster.seed_nodes):
            raise ConfigError(
                f"default_replica_num ({cluster.default_replica_num}) is more than the number of "
                f"seed_nodes ({len(cluster.seed_nodes)})"
            )


def declared_keys() -> dict[str, Field[Any]]:
    """Return every setting's declaration by key, in the order of the files made from it."""
    return {**_declared(ClusterWide), **_declared(NodeLocal)}


def shown_default(declared: Field[Any]) -> str:
    """Return a declaration's default as it is written in a file."""
    shown = declared.metadata["shown"]
    if shown is not None:
        return cast("str", shown)
    if isinstance(declared.default, bool):
        return str(declared.default).lower()
    return str(declared.default)


def _declared(owner: type[ClusterWide] | type[NodeLocal]) -> dict[str, Field[Any]]:
    return {item.name: item for item in fields(owner)}


def _parsed(declared: Field[Any], key: str, text: str) -> Any:  # noqa: ANN401
    try:
        return declared.metadata["parse"](text)
    except ValueError as error:
        raise ConfigError(f"{key}={text} is not allowed: it must be {error}") from error


def _unknown(key: str) -> str:
    near = difflib.get_close_matches(key, declared_keys(), n=1)
    return f"unknown key {key}" + (f"; did you mean {near[0]}?" if near else "")
