"""SchemaTree: the series of the storage groups whose schema a data group owns.

Persistent form, one record per series plus one counter per storage group:

    schema/series/<series id u64>  JSON list, see `series_record`
    schema/next/<sg id u64>        number of the storage group's next series, u64

Numbers are never used again, so what was known of a dropped series can't be taken for another one.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from cluster.errors import ClusterError, StatusCode
from cluster.schema.alter import altered, pairs_problem
from cluster.schema.encodings import deadband_problem, encoding_problem
from cluster.schema.paths import (
    PathPattern,
    join_path,
    split_path,
    validate_device,
    validate_measurement_name,
)
from cluster.schema.series import (
    SERIES_PER_STORAGE_GROUP_BITS,
    DeviceInfo,
    NewSeries,
    SeriesChange,
    SeriesInfo,
    SeriesSpec,
)
from cluster.schema.series_record import decode_series, dump_json, encode_series
from cluster.schema.tree_nodes import Device, Node, descend, find_node, matching_nodes

KEY_PREFIX = b"schema/"
_SERIES = KEY_PREFIX + b"series/"
_NEXT = KEY_PREFIX + b"next/"

Puts = dict[bytes, bytes | None]


class SeriesOutcome(NamedTuple):
    """What became of one SeriesSpec.

    Attributes:
        info: the series; also when `if_absent` found one of another type (the status says
            PATH_ALREADY_EXISTS then). None when there is none by that name.
        status, message: SUCCESS, or why it was not created.
    """

    info: SeriesInfo | None
    status: StatusCode = StatusCode.SUCCESS
    message: str = ""


class _Group:
    """A storage group."""

    __slots__ = ("devices", "in_order", "next_number", "nodes", "path", "root")

    def __init__(self, path: str) -> None:
        self.path = path
        self.nodes = split_path(path)
        self.root = Node()
        self.devices: dict[str, Device] = {}
        self.in_order: list[Device] | None = []  # sorted by path; None: to be made anew
        self.next_number = 0

    def sorted_devices(self) -> list[Device]:
        if self.in_order is None:
            self.in_order = [self.devices[path] for path in sorted(self.devices)]
        return self.in_order


class SchemaTree:
    """One thread applies, any thread reads.

    Walks take the lock. `resolve`, which every insert with unknown series calls, does not: it is
    look-ups in dictionaries only, and new names of a device enter in one atomic update.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: dict[int, _Group] = {}
        self._by_id: dict[int, SeriesInfo] = {}

    @classmethod
    def load(cls, pairs: Iterable[tuple[bytes, bytes]]) -> SchemaTree:
        """Return the tree that the puts so far amount to.

        Args:
            pairs: what is stored under KEY_PREFIX, sorted by key.

        Raises:
            ValueError: a record is damaged.
        """
        tree = cls()
        numbers = {}
        for key, value in pairs:
            try:
                if key.startswith(_SERIES):
                    info = decode_series(int.from_bytes(key[len(_SERIES) :], "big"), value)
                    tree._add(info.sg_id, info.storage_group, info.device, info.aligned, [info])
                elif key.startswith(_NEXT):
                    numbers[int.from_bytes(key[len(_NEXT) :], "big")] = value
                else:
                    raise ValueError("unknown kind")
            except (KeyError, TypeError, ValueError, ClusterError) as error:
                raise ValueError(f"schema record {key!r} is damaged: {error}") from error
        for sg_id, value in numbers.items():
            path, number = json.loads(value)
            tree._groups.setdefault(sg_id, _Group(path)).next_number = number
        return tree

    # ---- reading ----

    def resolve(
        self, sg_id: int, device: str, measurements: Sequence[str]
    ) -> tuple[bool | None, list[SeriesInfo | None]]:
        """Look up series of a device by measurement or alias.

        Returns:
            Whether the device is aligned (None: there is no such device), and for each name its
            series or None.
        """
        group = self._groups.get(sg_id)
        found = group.devices.get(device) if group is not None else None
        if found is None and group is not None and "`" in device:
            found = group.devices.get(join_path(split_path(device)))
        if found is None:
            return None, [None] * len(measurements)
        return found.aligned, list(map(found.names.get, measurements))

    def series(self, series_id: int) -> SeriesInfo | None:
        """Return a series by its id, or None."""
        return self._by_id.get(series_id)

    def match(
        self, pattern: PathPattern, sg_ids: Collection[int] | None = None
    ) -> list[SeriesInfo]:
        """Return the series whose path, or path with their alias, matches.

        Args:
            pattern: against full paths.
            sg_ids: only of these storage groups; None: of all.

        Returns:
            Sorted by device path, then by creation. O(size of the part of the tree that the
            pattern's nodes lead to).
        """
        if pattern.is_literal:
            return self._named(pattern, sg_ids)
        with self._lock:
            return self._match_locked(pattern, sg_ids)

    def match_all(
        self, queries: Iterable[tuple[PathPattern, Collection[int] | None]]
    ) -> list[list[SeriesInfo]]:
        """Return what `match` returns for each, all as of one moment.

        Series that are created, or deleted, by one request are there all or not at all.
        """
        with self._lock:
            return [self._match_locked(pattern, sg_ids) for pattern, sg_ids in queries]

    def _match_locked(
        self, pattern: PathPattern, sg_ids: Collection[int] | None
    ) -> list[SeriesInfo]:
        if pattern.is_literal:
            return self._named(pattern, sg_ids)
        found: list[SeriesInfo] = []
        last = pattern.last_literal
        for device, state in self._walk(pattern, sg_ids):
            if pattern.accepts_all_below(state):
                found.extend(device.series.values())
            elif last is not None:
                info = device.names.get(last)
                if info is not None and pattern.accepts(pattern.step(state, last)):
                    found.append(info)
            elif pattern.may_match_below(state):
                found.extend(
                    info for info in device.series.values() if _matches(pattern, state, info)
                )
        return found

    def _named(self, pattern: PathPattern, sg_ids: Collection[int] | None) -> list[SeriesInfo]:
        """Return the series of a path, or of a path with its alias; look-ups only, as `resolve`."""
        path, name = pattern.device, pattern.nodes[-1]
        for sg_id in tuple(self._groups) if sg_ids is None else sg_ids:
            group = self._groups.get(sg_id)
            device = group.devices.get(path) if group is not None else None
            info = device.names.get(name) if device is not None else None
            if info is not None:
                return [info]
        return []

    def devices(
        self, pattern: PathPattern, sg_ids: Collection[int] | None = None
    ) -> list[DeviceInfo]:
        """Return the devices whose path matches, sorted by path; arguments as in `match`."""
        with self._lock:
            return [
                DeviceInfo(
                    device.path,
                    next(iter(device.series.values())).storage_group,
                    device.aligned,
                    device.template,
                )
                for device, state in self._walk(pattern, sg_ids)
                if pattern.accepts(state)
            ]

    def count(self, pattern: PathPattern, sg_ids: Collection[int] | None = None) -> int:
        """Return how many series `match` would return."""
        return len(self.match(pattern, sg_ids))

    def series_count(self) -> int:
        """Return the number of series. O(1)."""
        return len(self._by_id)

    def _walk(
        self, pattern: PathPattern, sg_ids: Collection[int] | None
    ) -> list[tuple[Device, int]]:
        """Return the devices that a matching path leads to or through, with the state there."""
        found: list[tuple[Device, int]] = []
        walked = 0
        for sg_id in self._groups if sg_ids is None else set(sg_ids):
            group = self._groups.get(sg_id)
            state = pattern.state_after(group.nodes) if group is not None else 0
            if group is None or not state:
                continue
            walked += 1
            if pattern.accepts_all_below(state):
                # the usual case, `root.**`: no need to look at names; but the storage group's own
                # path, which may be a device, is not below itself
                below = pattern.step(state, "")
                found.extend(
                    (device, state if device.path == group.path else below)
                    for device in group.sorted_devices()
                )
                continue
            start = len(found)
            descend(pattern, group.root, state, found)
            found[start:] = sorted(found[start:], key=_device_path)
        if walked > 1:
            found.sort(key=_device_path)
        return found

    def node_types(
        self, pattern: PathPattern, sg_ids: Collection[int], level: int | None = None
    ) -> dict[str, str]:
        """Return the nodes below the storage groups' own whose path matches, with their kind.

        Args:
            pattern: against paths of nodes of every kind.
            sg_ids: only in these storage groups.
            level: None: the matching nodes; else the ancestors, with that many nodes after root,
                of matching nodes (or they themselves). May then be at or above a storage group.

        Returns:
            Path → INTERNAL, DEVICE or TIMESERIES, as 1.x names them.
        """
        found: dict[str, str] = {}
        with self._lock:
            for sg_id in sg_ids:
                group = self._groups.get(sg_id)
                if group is None:
                    continue
                for path, kind in matching_nodes(pattern, group.root, group.nodes):
                    if level is None:
                        found[join_path(path)] = kind
                    elif len(path) > level:
                        found[join_path(path[: level + 1])] = "" if len(path) > level + 1 else kind
                        if len(group.nodes) > level:
                            break  # its only ancestor at that level is known
        return found

    # ---- applying ----

    def create(self, new: NewSeries) -> tuple[list[SeriesOutcome], Puts]:
        """Create series of one device.

        An aligned device's series are created all or not at all, unless `if_absent`.

        Returns:
            An outcome for each spec, and what to store.
        """
        with self._lock:
            refusal = self._device_refusal(new)
            if refusal is not None:
                return [refusal] * len(new.specs), {}
            if "`" in new.device:
                new = replace(new, device=join_path(split_path(new.device)))
            group = self._groups.get(new.sg_id)
            if group is None:
                group = _Group(new.sg_path)
            device = group.devices.get(new.device)
            inner = find_node(group.root, split_path(new.device)[len(group.nodes) :])
            known = dict(device.names) if device is not None else {}
            number = group.next_number
            outcomes = []
            created: list[SeriesInfo] = []
            for spec in new.specs:
                outcome = _judge(new, spec, known, inner)
                if outcome is None:
                    info = _new_info(new, spec, number)
                    number += 1
                    known[info.measurement] = info
                    if info.alias is not None:
                        known[info.alias] = info
                    created.append(info)
                    outcome = SeriesOutcome(info)
                outcomes.append(outcome)
            failed = next((item for item in outcomes if item.status != StatusCode.SUCCESS), None)
            if failed is not None and new.aligned and not new.if_absent:
                return [
                    item if item.status != StatusCode.SUCCESS else failed._replace(info=None)
                    for item in outcomes
                ], {}
            if not created:
                return outcomes, {}
            self._add(new.sg_id, new.sg_path, new.device, new.aligned, created)
            puts: Puts = {_series_key(info.series_id): encode_series(info) for info in created}
            group = self._groups[new.sg_id]
            puts[_NEXT + new.sg_id.to_bytes(8, "big")] = dump_json([group.path, group.next_number])
            return outcomes, puts

    def delete(self, series_ids: Iterable[int]) -> tuple[list[SeriesInfo], Puts]:
        """Remove series, and devices that have none left; unknown ids are passed over.

        Returns:
            The removed series, and what to store.
        """
        removed = []
        puts: Puts = {}
        with self._lock:
            for series_id in series_ids:
                info = self._by_id.pop(series_id, None)
                if info is None:
                    continue
                group = self._groups[info.sg_id]
                device = group.devices[info.device]
                del device.series[info.measurement]
                del device.names[info.measurement]
                if info.alias is not None:
                    del device.names[info.alias]
                if not device.series:
                    _remove_device(group, device)
                elif info.template:
                    device.template = next(
                        (left.template for left in device.series.values() if left.template), ""
                    )
                removed.append(info)
                puts[_series_key(series_id)] = None
        return removed, puts

    def alter(self, change: SeriesChange) -> tuple[SeriesOutcome, Puts]:
        """Change tags, attributes or alias of a series.

        Returns:
            The series as it is then, or why it was left alone; and what to store.
        """
        with self._lock:
            info = self._by_id.get(change.series_id)
            if info is None:
                return SeriesOutcome(
                    None, StatusCode.TIMESERIES_NOT_EXIST, "the series was deleted meanwhile"
                ), {}
            group = self._groups[info.sg_id]
            device = group.devices[info.device]
            try:
                after = altered(info, change)
                if after.alias != info.alias and after.alias is not None:
                    _check_alias(
                        after.alias,
                        info.path,
                        device,
                        find_node(group.root, split_path(info.device)[len(group.nodes) :]),
                    )
            except ClusterError as refusal:
                return SeriesOutcome(info, refusal.status, refusal.message), {}
            device.series[info.measurement] = after
            device.names[info.measurement] = after
            if after.alias is not None:
                device.names[after.alias] = after
            if info.alias is not None and info.alias != after.alias:
                del device.names[info.alias]
            self._by_id[info.series_id] = after
            return SeriesOutcome(after), {_series_key(info.series_id): encode_series(after)}

    def drop_storage_groups(self, sg_ids: Iterable[int]) -> tuple[int, Puts]:
        """Remove whole storage groups; unknown ids are passed over.

        Returns:
            The number of removed series, and what to store.
        """
        count = 0
        puts: Puts = {}
        with self._lock:
            for sg_id in sg_ids:
                group = self._groups.pop(sg_id, None)
                if group is None:
                    continue
                for device in group.devices.values():
                    for info in device.series.values():
                        del self._by_id[info.series_id]
                        puts[_series_key(info.series_id)] = None
                        count += 1
                puts[_NEXT + sg_id.to_bytes(8, "big")] = None
        return count, puts

    def _device_refusal(self, new: NewSeries) -> SeriesOutcome | None:
        """Return why nothing at all can be created in the device, or None."""
        try:
            nodes = validate_device(new.device)
            sg_nodes = split_path(new.sg_path)
        except ClusterError as error:
            return SeriesOutcome(None, error.status, error.message)
        if nodes[: len(sg_nodes)] != sg_nodes:
            return SeriesOutcome(
                None,
                StatusCode.METADATA_ERROR,
                f"{new.device} is not in storage group {new.sg_path}",
            )
        group = self._groups.get(new.sg_id)
        if group is None:
            return None
        if group.next_number + len(new.specs) > 1 << SERIES_PER_STORAGE_GROUP_BITS:
            return SeriesOutcome(
                None,
                StatusCode.METADATA_ERROR,
                f"storage group {new.sg_path} has used up its series numbers",
            )
        node: Node | None = group.root
        for number in range(len(sg_nodes), len(nodes)):
            assert node is not None
            if node.device is not None and nodes[number] in node.device.names:
                return _exists(node.device.names[nodes[number]].path)
            node = node.children.get(nodes[number])
            if node is None:
                return None
        assert node is not None
        device = node.device
        if device is not None and device.aligned != new.aligned:
            if not new.if_absent:
                # 0.13 (MTree.createTimeseries) tells first of what exists
                for spec in new.specs:
                    if spec.measurement in device.names or spec.measurement in node.children:
                        return _exists(f"{new.device}.{spec.measurement}")
            kind, method = (
                ("aligned", "createAlignedTimeseries")
                if device.aligned
                else ("not aligned", "createTimeseries")
            )
            return SeriesOutcome(
                None,
                StatusCode.ALIGNED_TIMESERIES_ERROR,
                f"timeseries under this entity is {kind}, please use {method} or change entity. "
                f"(Path: {new.device})",
            )
        return None

    def _add(
        self, sg_id: int, sg_path: str, device: str, aligned: bool, infos: list[SeriesInfo]
    ) -> None:
        group = self._groups.get(sg_id)
        if group is None:
            group = self._groups[sg_id] = _Group(sg_path)
        found = group.devices.get(device)
        new = found is None
        if found is None:
            found = Device(device, aligned)
        found.series.update({info.measurement: info for info in infos})
        names = {info.measurement: info for info in infos}
        names.update({info.alias: info for info in infos if info.alias is not None})
        found.names.update(names)
        found.template = found.template or next(
            (info.template for info in infos if info.template), ""
        )
        self._by_id.update({info.series_id: info for info in infos})
        if new:
            node = group.root
            for name in split_path(device)[len(group.nodes) :]:
                node = node.children.setdefault(name, Node())
            node.device = found
            group.in_order = None
            group.devices[device] = found
        mask = (1 << SERIES_PER_STORAGE_GROUP_BITS) - 1
        last = max(info.series_id & mask for info in infos)
        group.next_number = max(group.next_number, last + 1)


def _check_alias(alias: str, path: str, device: Device, inner: Node | None) -> None:
    validate_measurement_name(alias, f"{device.path}.{alias}")
    if alias in device.names or (inner is not None and alias in inner.children):
        raise ClusterError(
            StatusCode.ALIAS_ALREADY_EXISTS, f"Alias [{alias}] for Path [{path}] already exists"
        )


def _device_path(item: tuple[Device, int]) -> str:
    return item[0].path


def _matches(pattern: PathPattern, state: int, info: SeriesInfo) -> bool:
    return pattern.accepts(pattern.step(state, info.measurement)) or (
        info.alias is not None and pattern.accepts(pattern.step(state, info.alias))
    )


def _remove_device(group: _Group, device: Device) -> None:
    del group.devices[device.path]
    group.in_order = None
    names = split_path(device.path)[len(group.nodes) :]
    trail = [group.root]
    for name in names:
        trail.append(trail[-1].children[name])
    trail[-1].device = None
    for parent, name in zip(reversed(trail[:-1]), reversed(names), strict=True):
        child = parent.children[name]
        if child.children or child.device is not None:
            break
        del parent.children[name]


def _exists(path: str, info: SeriesInfo | None = None) -> SeriesOutcome:
    return SeriesOutcome(info, StatusCode.PATH_ALREADY_EXISTS, f"Path [{path}] already exist")


def _judge(
    new: NewSeries, spec: SeriesSpec, known: dict[str, SeriesInfo], inner: Node | None
) -> SeriesOutcome | None:
    """Return the outcome of a spec that creates nothing, or None when it is to be created."""
    path = f"{new.device}.{spec.measurement}"
    existing = known.get(spec.measurement)
    if existing is not None:
        if not new.if_absent:
            return _exists(path)
        same = existing.data_type is spec.data_type
        return SeriesOutcome(existing) if same else _exists(path, existing)
    children = inner.children if inner is not None else {}
    if spec.measurement in children:
        return _exists(path)
    try:
        validate_measurement_name(spec.measurement, path)
        if spec.alias is not None:
            validate_measurement_name(spec.alias, f"{new.device}.{spec.alias}")
    except ClusterError as error:
        return SeriesOutcome(None, error.status, error.message)
    if spec.alias is not None and (
        spec.alias == spec.measurement or spec.alias in known or spec.alias in children
    ):
        return SeriesOutcome(
            None,
            StatusCode.ALIAS_ALREADY_EXISTS,
            f"Alias [{spec.alias}] for Path [{path}] already exists",
        )
    problem = encoding_problem(spec.data_type, spec.encoding, spec.compressor) or pairs_problem(
        path, spec.tags, spec.attributes
    )
    if problem is not None:
        return SeriesOutcome(None, StatusCode.METADATA_ERROR, problem)
    problem = deadband_problem(dict(spec.props))
    if problem is not None:
        return SeriesOutcome(
            None,
            StatusCode.ILLEGAL_PARAMETER,
            f"{problem}. Failed to create timeseries for path {path}",
        )
    return None


def _new_info(new: NewSeries, spec: SeriesSpec, number: int) -> SeriesInfo:
    return SeriesInfo(
        series_id=new.sg_id << SERIES_PER_STORAGE_GROUP_BITS | number,
        storage_group=new.sg_path,
        device=new.device,
        measurement=spec.measurement,
        data_type=spec.data_type,
        encoding=spec.encoding,
        compressor=spec.compressor,
        aligned=new.aligned,
        alias=spec.alias,
        props=spec.props,
        tags=spec.tags,
        attributes=spec.attributes,
        template=new.template,
    )


def _series_key(series_id: int) -> bytes:
    return _SERIES + series_id.to_bytes(8, "big")
