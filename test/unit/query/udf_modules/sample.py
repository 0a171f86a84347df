"""Functions of users for the tests: good ones, and each way to be bad."""

import functools
import json
import os
import time

import numpy as np


class Running:
    def __init__(self, types, attributes):
        if len(types) != 1 or types[0] not in ("INT32", "INT64", "FLOAT", "DOUBLE"):
            raise ValueError("one numeric series is needed")
        self.total = float(attributes.get("start", "0"))
        self.result_type = "DOUBLE"

    def compute(self, times, columns, valid):
        sums = self.total + np.cumsum(np.where(valid[0], columns[0], 0))
        self.total = sums[-1]
        return sums, valid[0]


class Joined:
    def __init__(self, types, attributes):
        self.result_type = "TEXT"
        self.glue = attributes["glue"]

    def compute(self, times, columns, valid):
        print("this must not disturb the server")
        texts = [
            self.glue.join([a.decode(), str(b)]) if ok else ""
            for a, b, ok in zip(*columns, valid[0] & valid[1], strict=True)
        ]
        return texts, valid[0] & valid[1]


class Raises(Running):
    def compute(self, times, columns, valid):
        return columns[0] / {}["nothing"]


class Sleeps(Running):
    def compute(self, times, columns, valid):
        time.sleep(60)


class Ends(Running):
    def compute(self, times, columns, valid):
        os._exit(3)


class Hungry(Running):
    def compute(self, times, columns, valid):
        return np.zeros(1 << 33)


class Short(Running):
    def compute(self, times, columns, valid):
        return columns[0][:-1]


class Mangles(Running):
    """Meddles with what its process says."""

    def compute(self, times, columns, valid):
        from cluster.query.udf import wire

        wire.encode = functools.partial(lambda encode, head, _=(): encode(head), wire.encode)
        return columns[0]


class NoType:
    def __init__(self, types, attributes):
        pass

    def compute(self, times, columns, valid):
        return columns[0]


class NoCompute:
    pass


class Records:
    """A trigger that writes down what it is told, a line for each batch."""

    def __init__(self, path, attributes):
        if "file" not in attributes:
            raise ValueError("the attribute 'file' is needed")
        self.name = attributes.get("name", path)
        self.file = attributes["file"]
        self.batches = 0

    def fire(self, device, times, columns, valid):
        self.batches += 1
        cells = {
            name: [
                (v.decode() if isinstance(v, bytes) else v) if ok else None
                for v, ok in zip(values.tolist(), valid[name].tolist(), strict=True)
            ]
            for name, values in columns.items()
        }
        with open(self.file, "a") as out:
            out.write(json.dumps([self.name, self.batches, device, times.tolist(), cells]) + "\n")


class Guards:
    """A trigger that refuses values above its limit."""

    def __init__(self, path, attributes):
        self.limit = float(attributes["limit"])

    def fire(self, device, times, columns, valid):
        for name, values in columns.items():
            if (values[valid[name]] > self.limit).any():
                raise ValueError(f"{name} is above {self.limit}")


class FiresTooLong:
    def __init__(self, path, attributes):
        pass

    def fire(self, device, times, columns, valid):
        time.sleep(60)


class FiresAndEnds(FiresTooLong):
    def fire(self, device, times, columns, valid):
        os._exit(3)


class NoFire(FiresTooLong):
    fire = None
