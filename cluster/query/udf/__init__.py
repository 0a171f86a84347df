"""Functions that users write in Python.

They run in processes of their own, one for each function of a running query: whatever such a
function does, it can be stopped, and takes its query with it, not the node. Start at `runtime.py`;
`worker.py` is the other side of the pipe, `wire.py` what they say.
"""
