"""Functions and triggers that users write in Python.

They run in processes of their own, one for each function of a running query, one for each trigger:
whatever such code does, it can be stopped, and takes its query or insert with it, not the node.
Start at `runtime.py` and `triggers.py`; `process.py` is a process seen from here, `worker.py` the
other side of the pipe, `wire.py` what they say.
"""
