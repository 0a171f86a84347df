"""The thread shell around a Raft core: RaftMember, MetaMember, DataMember.

Start at `raft_member.py`.
"""
