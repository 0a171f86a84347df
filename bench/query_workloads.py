"""What `bench/query.py` loads and asks: TSBS cpu-only and iot-benchmark's shapes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cluster.rpc.gen.client import ttypes as t
from harness.wire import WireClient, check, tablet

METRICS = [
    f"usage_{name}"
    for name in (
        "user",
        "system",
        "idle",
        "nice",
        "iowait",
        "irq",
        "softirq",
        "steal",
        "guest",
        "guest_nice",
    )
]
START_MS = 1_451_606_400_000
STEP_MS = 10_000
HOUR_MS = 3_600_000
TABLET_ROWS = 1000

IOT_DEVICES = 20
IOT_SENSORS = 200
IOT_ROWS = 1000
IOT_STEP_MS = 5000
IOT_INTERVAL_MS = 250_000
IOT_TYPES = [0, 1, 2, 3, 4, 5]
"""BOOLEAN, INT32, INT64, FLOAT, DOUBLE, TEXT, in consecutive blocks of sensors."""

WANTED_MS = {
    "single-groupby-1-1-1": 1.5,
    "single-groupby-5-8-1": 4.0,
    "cpu-max-all-8": 10.0,
    "double-groupby-1": 16.0,
    "double-groupby-all": 40.0,
    "high-cpu-all": 100.0,
    "lastpoint": 8.0,
    "count-all": 10.0,
    "raw-day": 4.0,
    "exact-timestamp": 1.0,
    "iot-Q1": 1.2,
    "iot-Q2": 2.0,
    "iot-Q3": 1.5,
    "iot-Q4": 0.8,
    "iot-Q5": 1.0,
    "iot-Q6": 0.7,
    "iot-Q7": 0.7,
    "iot-Q8": 0.4,
    "iot-Q9": 1.4,
    "iot-Q10": 1.2,
}
"""Issue 5; those of iot-benchmark are what the original took, with one client."""

WANTED_POINTS_PER_S = 2000


def load(client: WireClient, hosts: int, hours: int) -> None:
    """Load both data sets."""
    _load_cpu(client, hosts, hours)
    _load_iot(client)
    client.run("flush")


def _load_cpu(client: WireClient, hosts: int, hours: int) -> None:
    rng = np.random.default_rng(123)
    rows = hours * HOUR_MS // STEP_MS
    times = START_MS + STEP_MS * np.arange(rows)
    walk = rng.uniform(0, 100, (hosts, len(METRICS)))
    values = np.empty((rows, hosts, len(METRICS)))
    for row in range(rows):
        values[row] = walk = np.clip(walk + rng.normal(0, 1, walk.shape), 0, 100)
    values = np.floor(values)
    for host in range(hosts):
        for at in range(0, rows, TABLET_ROWS):
            part = slice(at, min(at + TABLET_ROWS, rows))
            request = tablet(
                client.session_id,
                f"root.cpu.host_{host}",
                METRICS,
                times[part].tolist(),
                list(values[part, host].T),
            )
            check(client.raw.insertTablet(request))


def _load_iot(client: WireClient) -> None:
    rng = np.random.default_rng(666)
    times = START_MS + IOT_STEP_MS * np.arange(IOT_ROWS)
    types = [IOT_TYPES[6 * sensor // IOT_SENSORS] for sensor in range(IOT_SENSORS)]
    for device in range(IOT_DEVICES):
        # row n has value n * (device + 1) modulo 100 of the 100 that its sensor repeats
        index = np.arange(IOT_ROWS) * (device + 1) % 100
        columns = []
        for kind in types:
            cycle = np.round(rng.uniform(0, 100, 100), 2)[index]
            columns.append(_column(kind, cycle))
        request = t.TSInsertTabletReq(
            client.session_id,
            f"root.iot.d_{device}",
            [f"s_{sensor}" for sensor in range(IOT_SENSORS)],
            b"".join(columns),
            times.astype(">i8").tobytes(),
            types,
            IOT_ROWS,
            False,
        )
        check(client.raw.insertTablet(request))


def _column(kind: int, values: np.ndarray) -> bytes:
    if kind == 5:
        return b"".join(b"\x00\x00\x00\x02%02d" % (int(value) % 100) for value in values)
    if kind == 0:
        return (values > 50).astype("u1").tobytes()
    return values.astype({1: ">i4", 2: ">i8", 3: ">f4", 4: ">f8"}[kind]).tobytes()


class Statements:
    """The statements, each with a random window and random hosts."""

    def __init__(self, hosts: int, hours: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._hosts = hosts
        self._end = START_MS + hours * HOUR_MS

    def all(self) -> dict[str, Callable[[], str]]:
        """Return by name what makes a statement."""
        return self._tsbs() | self._iot()

    def point(self) -> str:
        """Return the query of one value."""
        return f"select usage_user from {self._host()} where time = {self._time()}"

    # ---- TSBS ----

    def _tsbs(self) -> dict[str, Callable[[], str]]:
        grouped = self._grouped
        return {
            "single-groupby-1-1-1": lambda: grouped("max_value", 1, self._host(), 1, "1m"),
            "single-groupby-1-1-12": lambda: grouped("max_value", 1, self._host(), 12, "1m"),
            "single-groupby-5-8-1": lambda: grouped("max_value", 5, self._some_hosts(8), 1, "1m"),
            "cpu-max-all-8": lambda: grouped("max_value", 10, self._some_hosts(8), 8, "1h"),
            "double-groupby-1": lambda: grouped("avg", 1, "root.cpu.*", 12, "1h"),
            "double-groupby-all": lambda: grouped("avg", 10, "root.cpu.*", 12, "1h"),
            "high-cpu-all": lambda: self._high_cpu("root.cpu.*"),
            "high-cpu-1": lambda: self._high_cpu(self._host()),
            "lastpoint": lambda: "select last * from root.cpu.*",
            "groupby-orderby-limit": self._last_minutes,
            "count-all": lambda: "select count(*) from root.cpu.*",
            "raw-day": lambda: f"select usage_user from {self._host()}",
            "exact-timestamp": self.point,
            "exact-timestamp-10": lambda: f"select * from {self._host()} where time={self._time()}",
        }

    def _window(self, hours: float) -> tuple[int, int]:
        length = int(hours * HOUR_MS)
        low = int(self._rng.integers(START_MS, max(START_MS + 1, self._end - length)))
        return low, low + length

    def _time(self) -> int:
        return START_MS + STEP_MS * int(self._rng.integers((self._end - START_MS) // STEP_MS))

    def _host(self) -> str:
        return f"root.cpu.host_{self._rng.integers(self._hosts)}"

    def _some_hosts(self, count: int) -> str:
        chosen = self._rng.choice(self._hosts, min(count, self._hosts), replace=False)
        return ", ".join(f"root.cpu.host_{host}" for host in chosen)

    def _grouped(self, function: str, metrics: int, hosts: str, hours: float, by: str) -> str:
        low, high = self._window(hours)
        items = ", ".join(f"{function}({name})" for name in METRICS[:metrics])
        return f"select {items} from {hosts} group by ([{low}, {high}), {by})"

    def _high_cpu(self, hosts: str) -> str:
        low, high = self._window(12)
        return (
            f"select * from {hosts} where usage_user > 90 and time >= {low} and time < {high} "
            "align by device"
        )

    def _last_minutes(self) -> str:
        end = int(self._rng.integers(START_MS + HOUR_MS, self._end))
        return (
            f"select max_value(usage_user) from {self._host()} "
            f"group by ([{START_MS}, {end}), 1m) order by time desc limit 5"
        )

    # ---- iot-benchmark ----

    def _iot(self) -> dict[str, Callable[[], str]]:
        def raw(*, above: bool = False, tail: str = "") -> Callable[[], str]:
            def make() -> str:
                sensor, device = self._sensor(numeric=above)
                low, high = self._iot_window()
                value = f" and {sensor} > -5" if above else ""
                return (
                    f"select {sensor} from {device} where time >= {low} and time <= {high}"
                    f"{value}{tail}"
                )

            return make

        def counted(*, within: bool, above: bool) -> Callable[[], str]:
            def make() -> str:
                sensor, device = self._sensor(numeric=above)
                low, high = self._iot_window()
                tests = [f"time >= {low} and time <= {high}"] if within else []
                tests += [f"{sensor} > -5"] if above else []
                return f"select count({sensor}) from {device} where {' and '.join(tests)}"

            return make

        def exact() -> str:
            sensor, device = self._sensor()
            return f"select {sensor} from {device} where time = {self._iot_window()[0]}"

        def sampled() -> str:
            sensor, device = self._sensor()
            low, high = self._iot_window()
            return f"select count({sensor}) from {device} group by ([{low}, {high}), 20000ms)"

        def last() -> str:
            sensor, device = self._sensor()
            return f"select last {sensor} from {device}"

        newest = " order by time desc"
        return {
            "iot-Q1": exact,
            "iot-Q2": raw(),
            "iot-Q3": raw(above=True),
            "iot-Q4": counted(within=True, above=False),
            "iot-Q5": counted(within=False, above=True),
            "iot-Q6": counted(within=True, above=True),
            "iot-Q7": sampled,
            "iot-Q8": last,
            "iot-Q9": raw(tail=newest),
            "iot-Q10": raw(above=True, tail=newest),
        }

    def _sensor(self, *, numeric: bool = False) -> tuple[str, str]:
        first, last = (IOT_SENSORS // 6 + 1, 5 * IOT_SENSORS // 6) if numeric else (0, IOT_SENSORS)
        sensor = int(self._rng.integers(first, last))
        return f"s_{sensor}", f"root.iot.d_{self._rng.integers(IOT_DEVICES)}"

    def _iot_window(self) -> tuple[int, int]:
        rows = IOT_ROWS - IOT_INTERVAL_MS // IOT_STEP_MS
        low = START_MS + IOT_STEP_MS * int(self._rng.integers(rows))
        return low, low + IOT_INTERVAL_MS
