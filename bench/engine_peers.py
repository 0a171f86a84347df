"""Databases that are installed here beside the engine: the same data, the same questions, one run.

TSBS cpu-only, 100 hosts x 10 metrics x 1 day (8.64 million values). DuckDB in this process (`pip
install duckdb`); VictoriaMetrics and PostgreSQL as servers of their own on this machine (Debian:
victoria-metrics, postgresql): the times of answers over HTTP, and what psql says within a session.
Medians in ms; `ratios`: the peer's time over the engine's. A peer that is not installed is null.
Prints one JSON line.

    python bench/engine_peers.py [--path DIR] [--record]
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from engine_data import (
    DAY_ROWS,
    HOSTS,
    METRICS,
    STEP_MS,
    TSBS_START_MS,
    median_ms,
    timed,
    tsbs_walks,
)
from engine_queries import DAY_MS, HOUR_MS, duckdb_tsbs, tsbs
from report import report

TIMES = TSBS_START_MS + STEP_MS * np.arange(DAY_ROWS, dtype=np.int64)
STARTS = TSBS_START_MS + np.random.default_rng(5).integers(0, 12 * HOUR_MS, 64) // STEP_MS * STEP_MS
REPEATS = 7
_START_S = 60
Figures = dict[str, Any]


def wait_until(ready: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _START_S
    while True:
        try:
            if ready():
                return
        except OSError:
            pass
        if time.monotonic() > end:
            raise TimeoutError(f"{what} does not answer")
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tree_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def victoria_metrics(folder: Path, walks: np.ndarray) -> Figures | None:
    program = shutil.which("victoria-metrics")
    if program is None:
        return None
    at = f"127.0.0.1:{free_port()}"
    options = ["-retentionPeriod=100y", f"-storageDataPath={folder}", f"-httpListenAddr={at}"]
    options += ["-search.disableCache", "-loggerLevel=ERROR"]
    with subprocess.Popen([program, *options]) as server:
        try:
            wait_until(lambda: call(at, "/health") == b"OK", "VictoriaMetrics")
            return ask_victoria_metrics(at, folder, walks)
        finally:
            server.terminate()


def call(at: str, path: str, body: bytes | None = None) -> bytes:
    with urllib.request.urlopen(f"http://{at}{path}", body, timeout=120) as answer:
        found: bytes = answer.read()
        return found


def ask_victoria_metrics(at: str, folder: Path, walks: np.ndarray) -> Figures:
    stamps = TIMES.tolist()

    def load() -> None:
        for number, values in enumerate(walks):
            labels = {"__name__": f"m{number % METRICS}", "host": str(number // METRICS)}
            line = {"metric": labels, "values": values.tolist(), "timestamps": stamps}
            call(at, "/api/v1/import", json.dumps(line).encode())
        call(at, "/internal/force_flush")

    def ask(query: str, end_ms: int, span_ms: int = 0, step_ms: int = HOUR_MS) -> list[Any]:
        end = end_ms / 1000
        words = {"query": query, "step": f"{step_ms // 1000}s", "nocache": "1"}
        words |= {"start": str(end - span_ms / 1000), "end": str(end)} if span_ms else {"time": end}
        kind = "query_range" if span_ms else "query"
        answer = json.loads(call(at, f"/api/v1/{kind}?{urllib.parse.urlencode(words)}"))
        found: list[Any] = answer["data"]["result"]
        return found

    every, day_end = '{__name__=~"m[0-9]"}', TSBS_START_MS + DAY_MS
    load_s = timed(load)

    def has_all() -> bool:
        counted = ask(f"sum(count_over_time({every}[25h]))", day_end)
        return bool(counted) and int(counted[0]["value"][1]) == walks.size

    wait_until(has_all, "what was imported")

    def one(n: int) -> str:
        return f'm0{{host="{n}"}}'

    def raw(n: int) -> bytes:
        words = {"match[]": one(n), "start": TSBS_START_MS / 1000, "end": day_end / 1000}
        return call(at, f"/api/v1/export?{urllib.parse.urlencode(words)}")

    found: Figures = {
        "count_all_ms": lambda n: ask(f"sum(count_over_time({every}[25h]))", day_end),
        "hourly_mean_all_12h_ms": lambda n: ask(
            f"avg_over_time({every}[1h])", int(STARTS[n]) + 12 * HOUR_MS, 11 * HOUR_MS
        ),
        "minute_max_1_series_1h_ms": lambda n: ask(
            f"max_over_time({one(n)}[1m])", int(STARTS[n]) + HOUR_MS, 59 * 60_000, 60_000
        ),
        "day_raw_1_series_ms": raw,
        "last_1000_series_ms": lambda n: ask(f"last_over_time({every}[25h])", day_end),
    }
    found = {name: median_ms(run, REPEATS) for name, run in found.items()}
    return {**found, "load_s": round(load_s, 2), "disk_bytes": tree_bytes(folder)}


def postgresql(folder: Path, walks: np.ndarray) -> Figures | None:
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not homes or shutil.which("psql") is None:
        return None
    tools = homes[-1]
    user = None
    if os.geteuid() == 0:  # the server refuses to run as root
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            return None
        for place in (folder, folder.parent):
            os.chown(place, user.pw_uid, user.pw_gid)
    as_user = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid}
    data, log = folder / "data", folder / "log"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": True, **as_user}
    subprocess.run([tools / "initdb", "-A", "trust", "-U", "bench", "-D", data], **quiet)
    options = f"-c listen_addresses='' -k {folder} -c shared_buffers=1GB"
    control = [tools / "pg_ctl", "-D", data, "-l", log, "-w"]
    subprocess.run([*control, "-o", options, "start"], **quiet)
    try:
        return ask_postgresql(folder, walks)
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **quiet)


def ask_postgresql(folder: Path, walks: np.ndarray) -> Figures:
    names = [f"m{m}" for m in range(METRICS)]

    def run(text: str) -> str:
        words = ["psql", "-h", str(folder), "-U", "bench", "-d", "postgres", "-q", "-A", "-t"]
        return subprocess.run(
            [*words, "-v", "ON_ERROR_STOP=1"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def load() -> None:
        columns = ", ".join(f"{name} double precision" for name in names)
        run(f"CREATE TABLE cpu (host int, time bigint, {columns})")
        for host in range(HOSTS):
            part = walks[host * METRICS : (host + 1) * METRICS].T.tolist()
            rows = [
                "\t".join(map(str, (host, stamp, *cells)))
                for stamp, cells in zip(TIMES.tolist(), part, strict=True)
            ]
            run("COPY cpu FROM STDIN;\n" + "\n".join(rows) + "\n\\.\n")
        run("CREATE INDEX ON cpu (host, time); VACUUM ANALYZE cpu")

    load_s = timed(load)
    counts = ", ".join(f"count({name})" for name in names)
    assert run(f"SELECT {counts} FROM cpu").strip().split("|") == [str(DAY_ROWS * HOSTS)] * METRICS

    def ask(text: str) -> float:
        script = ["\\timing on", "\\o /dev/null"]
        for n in range(REPEATS + 1):
            a = int(STARTS[n])
            script.append(text.format(a=a, h12=a + 12 * HOUR_MS, h1=a + HOUR_MS, host=n) + ";")
        found = [float(ms) for ms in re.findall(r"Time: ([\d.]+) ms", run("\n".join(script)))]
        return round(statistics.median(found[1:]), 3)

    means = ", ".join(f"avg({name})" for name in names)
    found: Figures = {
        "count_all_ms": f"SELECT {counts} FROM cpu",
        "hourly_mean_all_12h_ms": f"SELECT host, (time - {{a}}) / 3600000 h, {means} FROM cpu "
        "WHERE time >= {a} AND time < {h12} GROUP BY host, h",
        "minute_max_1_series_1h_ms": "SELECT (time - {a}) / 60000 m, max(m0) FROM cpu "
        "WHERE host = {host} AND time >= {a} AND time < {h1} GROUP BY m",
        "day_raw_1_series_ms": "SELECT time, m0 FROM cpu WHERE host = {host} ORDER BY time",
        "last_1000_series_ms": "SELECT last.* FROM generate_series(0, 99) h, LATERAL "
        "(SELECT * FROM cpu WHERE host = h ORDER BY time DESC LIMIT 1) last",
    }
    found = {name: ask(text) for name, text in found.items()}
    return {**found, "load_s": round(load_s, 2), "disk_bytes": tree_bytes(folder / "data" / "base")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--path", default=None)
    parser.add_argument("--record", action="store_true", help="add to bench/results.jsonl")
    options = parser.parse_args()
    walks = tsbs_walks(HOSTS * METRICS, DAY_ROWS)
    with tempfile.TemporaryDirectory(dir=options.path) as folder:
        places = [Path(folder) / name for name in ("engine", "victoria", "postgres")]
        for place in places:
            place.mkdir()
        figures: Figures = {
            "engine": tsbs(str(places[0]), walks),
            "duckdb": duckdb_tsbs(walks),
            "victoria_metrics": victoria_metrics(places[1], walks),
            "postgresql": postgresql(places[2], walks),
        }
    mine = figures["engine"]
    figures["ratios"] = {
        peer: {name: round(took / mine[name], 1) for name, took in found.items() if name in mine}
        for peer, found in figures.items()
        if peer != "engine" and found is not None
    }
    report("engine_peers", figures, record=options.record)


if __name__ == "__main__":
    main()
