"""A DataFrame into a database in a folder, and out again as hourly means.

    python examples/pandas_round_trip.py [FOLDER]

Needs pandas and pyarrow: pip install pandas pyarrow.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

import iotdb_client


def main() -> None:
    """Write a day of two sensors, and read it back in three ways."""
    index = pd.date_range("2024-05-01", periods=86_400, freq="1s", tz="UTC")
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "temperature": 20 + np.cumsum(rng.normal(0, 0.01, len(index))),
            "door": rng.random(len(index)) > 0.999,
        },
        index=index,
    )
    frame.loc[frame.index[100:200], "temperature"] = np.nan  # the sensor was away
    where = sys.argv[1] if len(sys.argv) > 1 else ":memory:"
    with iotdb_client.connect(where, zone="UTC") as connection:
        rows = connection.insert_dataframe("root.house.hall", frame)
        print(f"{rows} rows written")

        back = connection.execute("select temperature, door from root.house.hall").to_pandas()
        same = back["root.house.hall.temperature"].count() == frame["temperature"].count()
        print(f"{len(back)} rows read, as many temperatures: {same}")

        hourly = connection.execute(
            "select avg(temperature), count(door) from root.house.hall "
            "group by ([2024-05-01, 2024-05-02), 1h)"
        ).to_pandas()
        print(hourly.head(3).to_string(index=False))

        arrow = connection.execute("select temperature from root.house.hall").to_arrow()
        print(f"Arrow: {arrow.num_rows} rows, {arrow.nbytes // 1024} KiB")


if __name__ == "__main__":
    main()
