"""Slots, the ring, PartitionGroup and SlotPartitionTable: values only, no I/O."""
