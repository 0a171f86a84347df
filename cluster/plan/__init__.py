"""Physical plans and read requests: what a statement becomes, what it brings, and the byte forms.

Those of plans are in the Raft log: frozen. Start at `plans.py` and `reads.py`, then `codec.py`.
"""
