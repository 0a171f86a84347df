"""What a read does to rows where they lie: filters, windows, partial aggregates over batches.

Group leaders run it next to their regions, coordinators on rows of several groups; both get the
same values, which have a byte form in `cluster.plan.reads`. Knows the engine only: no SQL, no
groups. Start at `region_reads.py`.
"""
