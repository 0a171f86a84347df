"""Copies series of an IoTDB server into this database: read with the official client.

    .venv/bin/python -m pip install apache-iotdb
    .venv/bin/python examples/migrate.py --from 127.0.0.1:6667 --to h1:6667 --path "root.sg.**"

Series are made with the types they have, points copied device by device in tablets. It may be run
again: what is there already is written over with the same values.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

from iotdb.Session import Session  # the official client

import iotdb_client
from iotdb_client import DataType

ROWS = 10_000


def listed(session: Session, path: str) -> dict[str, list[tuple[str, DataType]]]:
    """Return measurements and types of each device below a path."""
    found: dict[str, list[tuple[str, DataType]]] = defaultdict(list)
    data = session.execute_query_statement(f"show timeseries {path}")
    names = [name.lower() for name in data.get_column_names()]
    lead = int(names[0] == "time")
    while data.has_next():
        fields = data.next().get_fields()
        series = str(fields[names.index("timeseries") - lead])
        kind = str(fields[names.index("datatype") - lead])
        device, _, measurement = series.rpartition(".")
        found[device].append((measurement, DataType[kind]))
    data.close_operation_handle()
    return found


def value_of(field: object, kind: DataType) -> object:
    """Return a field of the official client as a Python value, None for null."""
    text = str(field)
    if field is None or field.get_data_type() is None or text in ("None", "null"):  # type: ignore[attr-defined]
        return None
    if kind is DataType.BOOLEAN:
        return text.lower() == "true"
    if kind in (DataType.INT32, DataType.INT64):
        return int(text)
    if kind in (DataType.FLOAT, DataType.DOUBLE):
        return float(text)
    return text


def copy(
    session: Session,
    target: iotdb_client.Connection,
    device: str,
    series: list[tuple[str, DataType]],
) -> int:
    """Copy the points of a device; return its rows."""
    names, types = [name for name, _ in series], [kind for _, kind in series]
    data = session.execute_query_statement(f"select {', '.join(names)} from {device}")
    shown = data.get_column_names()[1:]
    order = [shown.index(f"{device}.{name}") for name in names]
    rows = 0
    times: list[int] = []
    columns: list[list[object]] = [[] for _ in names]
    while True:
        more = data.has_next()
        if times and (not more or len(times) == ROWS):
            target.insert_tablet(device, names, types, times, columns)
            rows += len(times)
            times, columns = [], [[] for _ in names]
        if not more:
            break
        record = data.next()
        fields = record.get_fields()
        times.append(record.get_timestamp())
        for column, number, kind in zip(columns, order, types, strict=True):
            column.append(value_of(fields[number], kind))
    data.close_operation_handle()
    return rows


def main() -> None:
    """Copy what is below a path."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--from", dest="source", default="127.0.0.1:6667")
    arguments.add_argument("--to", required=True, help="hosts, URL or folder")
    arguments.add_argument("--path", default="root.**")
    given = arguments.parse_args()
    host, _, port = given.source.partition(":")
    session = Session(host, int(port or 6667), "root", "root")
    session.open(False)
    with iotdb_client.connect(given.to) as target:
        total = 0
        for device, series in sorted(listed(session, given.path).items()):
            rows = copy(session, target, device, series)
            total += rows
            print(f"{device}: {len(series)} series, {rows} rows")
    session.close()
    print(f"{total} rows copied")


if __name__ == "__main__":
    main()
