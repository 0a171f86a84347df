"""What is remembered of layouts is bounded by their columns, and goes with its device."""

from __future__ import annotations

from typing import Any

from cluster.coordinator.schema_cache import LayoutKey, ResolvedLayout, SchemaCache
from iotdb_engine.types import DataType, Layout


def key(device: str, *names: str) -> LayoutKey:
    return LayoutKey(device, names, (DataType.INT32,) * len(names), False)


def remember(cache: SchemaCache, *keys: LayoutKey) -> None:
    group: Any = None
    for item in keys:
        layout = Layout(tuple(range(len(item.measurements))), item.types)
        cache.remember_layout(item, ResolvedLayout(group, layout, item.measurements))


def known(cache: SchemaCache, *keys: LayoutKey) -> list[bool]:
    return [cache.layout(item) is not None for item in keys]


def test_layouts_are_bounded_by_their_columns() -> None:
    cache = SchemaCache(max_columns=10)
    wide = key("d", *"abcdef")
    narrow = [key("d", name) for name in "abcd"]
    remember(cache, wide, *narrow, wide)  # that it comes again counts nothing
    assert all(known(cache, wide, *narrow))
    remember(cache, key("e", "a"))
    assert known(cache, wide, *narrow, key("e", "a")) == [False] * 5 + [True]


def test_what_is_forgotten_makes_room() -> None:
    cache = SchemaCache(max_columns=10)
    kept = key("kept", *"abcd")
    remember(cache, kept)
    for _ in range(5):
        gone = [key("gone", *"abc"), key("gone", *"abd")]
        epoch = cache.epoch
        remember(cache, *gone)
        assert all(known(cache, kept, *gone))
        cache.forget_device("gone")
        assert known(cache, kept, *gone) == [True, False, False]
        assert cache.epoch > epoch
    for _ in range(3):
        cache.clear()
        remember(cache, kept, key("d", *"abcdef"))
        assert all(known(cache, kept, key("d", *"abcdef")))
