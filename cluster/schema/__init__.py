"""Paths, storage groups, series, templates: the replicated schema as values with operations.

The state machines of `cluster.member` apply plans to them. No threads, no I/O. Start at `tree.py`
for a data group's series, at `meta_state.py` for what all nodes share.
"""
