"""Slots, the ring, its nodes, PartitionGroup and SlotPartitionTable: values only, no I/O.

Start at `slot_partition_table.py`.
"""
