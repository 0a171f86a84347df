"""Inserts that come again and again with the same columns, resolved once."""

from __future__ import annotations

from cluster.coordinator.schema_cache import LayoutKey, ResolvedLayout


class Prepared:
    """What an insert says of its columns; kept by who sees that the next one says the same.

    Attributes:
        key: device, columns and types.
        resolved: what that was resolved to last, if everything in it could be written.
        epoch: `SchemaCache.epoch` before that: it holds as long as the cache's is the same.
    """

    __slots__ = ("epoch", "key", "resolved")

    def __init__(self, key: LayoutKey) -> None:
        self.key = key
        self.resolved: ResolvedLayout | None = None
        self.epoch = -1
