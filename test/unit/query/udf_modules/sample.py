"""Functions of users for the tests: good ones, and each way to be bad."""

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


class NoType:
    def __init__(self, types, attributes):
        pass

    def compute(self, times, columns, valid):
        return columns[0]


class NoCompute:
    pass
