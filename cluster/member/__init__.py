"""The thread shell around a Raft core: this node's members of its groups, and what they replicate.

Owns the member's lock, the threads and connections that carry its messages, the state machines
(MetaMember, DataMember), and the snapshots. Knows nothing of clients or SQL. Start at
`raft_member.py`; how its core is stepped says `stepper.py`, where effects go `effect_router.py`.
"""
