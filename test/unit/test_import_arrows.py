"""The arrows of design.md 2: who may import whom."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMON = {
    "allocator",
    "async_touches",
    "awake_cores",
    "closers",
    "errors",
    "fail_stop",
    "heap_ahead",
    "open_files",
    "output_file",
    "stop_signals",
    "threads",
}

ALLOWED = {
    "config": {"raft"},
    "rpc": {"raft"},
    "raft": set(),
    "log": {"raft"},
    "partition": {"raft"},
    "schema": {"partition", "raft", "auth"},
    "plan": {"schema", "scan"},
    "scan": set(),
    "auth": set(),
    "sql": {"schema"},
    "query": {"sql", "schema", "scan", "auth"},
    "heartbeat": set(),
    "member": {"raft", "log", "plan", "scan", "schema", "partition", "heartbeat", "rpc", "config"},
    "coordinator": {
        "member",
        "query",
        "plan",
        "scan",
        "schema",
        "partition",
        "raft",
        "rpc",
        "config",
    },
    "server": {
        "coordinator",
        "member",
        "query",
        "scan",
        "sql",
        "plan",
        "schema",
        "partition",
        "raft",
        "rpc",
        "config",
        "auth",
        "log",  # nodetool reads a stopped node's log
    },
    "main": {
        "server",
        "coordinator",
        "member",
        "heartbeat",
        "log",
        "plan",
        "partition",
        "raft",
        "rpc",
        "config",
        "auth",
    },
    "node_command": {"main", "server", "config"},
    "embedded": {
        "server",
        "coordinator",
        "member",
        "log",
        "plan",
        "partition",
        "raft",
        "rpc",
        "config",
        "auth",
    },
}
ENGINE_USERS = {
    "schema",
    "plan",
    "scan",
    "sql",
    "query",
    "member",
    "coordinator",
    "server",
    "rpc",
    "main",
    "embedded",
}
PURE_CORE = {
    "__future__",
    "dataclasses",
    "enum",
    "typing",
    "collections",
    "bisect",
    "heapq",
    "random",
    "itertools",
}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
    return found


def sources(package: str) -> list[Path]:
    return [path for path in sorted((ROOT / package).rglob("*.py")) if "gen" not in path.parts]


def test_cluster_rooms_import_only_what_the_design_allows() -> None:
    wrong = []
    for path in sources("cluster"):
        parts = path.relative_to(ROOT / "cluster").parts
        room = parts[0].removesuffix(".py")
        if room in COMMON or room == "__init__":
            continue
        for module in imports(path):
            names = module.split(".")
            if names[0] == "cluster" and len(names) > 1:
                target = names[1]
                if target not in ALLOWED[room] | COMMON | {room}:
                    wrong.append(f"{path.relative_to(ROOT)} imports {module}")
            elif names[0] == "iotdb_client" or (
                names[0] == "iotdb_engine" and room not in ENGINE_USERS
            ):
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_the_engine_knows_nothing_of_the_rest() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sources("iotdb_engine")
        for module in imports(path)
        if module.split(".")[0] in ("cluster", "iotdb_client", "thrift")
    ]
    assert not wrong, "\n".join(wrong)


EMBEDDED_IMPORTS = {
    "cluster.embedded",
    "cluster.config.settings",
    "cluster.errors",
    "iotdb_engine.errors",
}
"""Of `iotdb_client/embedded.py`, which opens a folder in the caller's process."""


CODEC_IMPORTS = {"iotdb_engine"}
"""Of `iotdb_client/blocks.py`: `iotdb_engine.encoding` decodes pages that come as stored."""


def test_the_client_uses_only_the_generated_code_of_the_server() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sources("iotdb_client")
        for module in imports(path)
        if module.split(".")[0] in ("cluster", "iotdb_engine")
        and not module.startswith("cluster.rpc.gen.client")
        and not (path.name == "embedded.py" and module in EMBEDDED_IMPORTS)
        and not (path.name == "blocks.py" and module in CODEC_IMPORTS)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_consensus_core_is_pure() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sources("cluster/raft")
        for module in imports(path)
        if module.split(".")[0] not in PURE_CORE and not module.startswith("cluster.raft")
    ]
    assert not wrong, "\n".join(wrong)
