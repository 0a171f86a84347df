"""A deterministic simulator of one Raft group: cores, clock, network, disks, clients, one thread.

Everything random comes from one seeded generator, everything timed from one virtual clock, so a
seed replays exactly. Start at `cluster.py`; the rules that must hold are in `checkers.py`.
"""
