"""ALTER TIMESERIES: what becomes of a series' tags, attributes and alias (sql.md 2.4, 2.8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cluster.errors import ClusterError, StatusCode
from cluster.schema.series import AlterAction, SeriesChange, SeriesInfo

TAG_ATTRIBUTE_TOTAL_BYTES = 700
"""0.13 `tag_attribute_total_size`; not configurable, since replicas must decide alike."""

Pairs = Sequence[tuple[str, str]]


def altered(info: SeriesInfo, change: SeriesChange) -> SeriesInfo:
    """Return the series after the change; that a new alias is free is the caller's to see.

    Raises:
        ClusterError: METADATA_ERROR; nothing is to be changed.
    """
    tags, attributes = dict(info.tags), dict(info.attributes)
    pairs = change.pairs
    match change.action:
        case AlterAction.RENAME:
            if len(pairs) != 1:
                raise ClusterError(
                    StatusCode.METADATA_ERROR, f"RENAME takes one old and new key, not {len(pairs)}"
                )
            ((old, new),) = pairs
            _rename(info, tags, attributes, old, new)
        case AlterAction.SET:
            for key, value in pairs:
                _owner(info, tags, attributes, key)[key] = value
        case AlterAction.DROP:
            for key, _ in pairs:
                tags.pop(key, None)
                attributes.pop(key, None)
        case AlterAction.ADD_TAGS:
            _add(info, tags, pairs, "tag")
        case AlterAction.ADD_ATTRIBUTES:
            _add(info, attributes, pairs, "attribute")
        case AlterAction.UPSERT:
            tags.update(pairs)
            attributes.update(change.attributes)
    problem = pairs_problem(info.path, tuple(tags.items()), tuple(attributes.items()))
    if problem is not None:
        raise ClusterError(StatusCode.METADATA_ERROR, problem)
    return replace(
        info,
        tags=tuple(tags.items()),
        attributes=tuple(attributes.items()),
        alias=info.alias if change.alias is None else change.alias,
    )


def pairs_problem(path: str, tags: Pairs, attributes: Pairs) -> str | None:
    """Return why a series can't have these tags and attributes, or None when it can."""
    both = {key for key, _ in tags} & {key for key, _ in attributes}
    if both:
        return f"Tag and attribute shouldn't have the same property key [{min(both)}]"
    size = sum(8 + len(key.encode()) + len(value.encode()) for key, value in (*tags, *attributes))
    if size > TAG_ATTRIBUTE_TOTAL_BYTES:
        return (
            f"the tags and attributes of {path} take {size} bytes, "
            f"more than {TAG_ATTRIBUTE_TOTAL_BYTES}"
        )
    return None


def _owner(
    info: SeriesInfo, tags: dict[str, str], attributes: dict[str, str], key: str
) -> dict[str, str]:
    """Return the one of both that has a key."""
    for pairs in (tags, attributes):
        if key in pairs:
            return pairs
    raise ClusterError(
        StatusCode.METADATA_ERROR,
        f"TimeSeries [{info.path}] does not have tag/attribute [{key}].",
    )


def _rename(
    info: SeriesInfo, tags: dict[str, str], attributes: dict[str, str], old: str, new: str
) -> None:
    pairs = _owner(info, tags, attributes, old)
    if new in tags or new in attributes:
        raise ClusterError(
            StatusCode.METADATA_ERROR,
            f"TimeSeries [{info.path}] already has a tag/attribute named [{new}].",
        )
    renamed: Mapping[str, str] = {new if key == old else key: value for key, value in pairs.items()}
    pairs.clear()
    pairs.update(renamed)


def _add(info: SeriesInfo, pairs: dict[str, str], new: Pairs, what: str) -> None:
    for key, value in new:
        if key in pairs:
            raise ClusterError(
                StatusCode.METADATA_ERROR,
                f"TimeSeries [{info.path}] already has the {what} [{key}].",
            )
        pairs[key] = value
