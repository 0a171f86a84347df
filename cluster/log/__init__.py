"""The node's durable Raft log, shared by all its groups.

Owns the bytes of `docs/formats/raft-log.md`, the one log-writer thread, and what each group keeps
in memory to find its entries again. Knows nothing of elections, networks or what an entry means.
Start reading at `node_log.py`; then `log_writer.py` (the way down), `recovery.py` (the way back).
"""
