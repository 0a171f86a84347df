"""Paths, storage groups, series: the replicated schema of a group as a value with operations."""
