"""Schema templates: their definitions and where they are set; a part of the meta state.

Replicated: what changes something is deterministic and returns what to store:

    template/<name>  JSON [aligned, [[prefix, aligned, spec…], …]]
    template-on/<path>  name of the template that is set on the node

A template is *set* on a node here; on which devices it is *activated* is part of the series
themselves (`SeriesInfo.template`), in the data groups. Errors: sql.md 1.8.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster.errors import ClusterError, StatusCode
from cluster.schema.encodings import encoding_problem
from cluster.schema.paths import join_path, split_path, validate_measurement_name
from cluster.schema.series import SeriesSpec
from iotdb_engine.types import DataType

TEMPLATE_PREFIX = b"template/"
SET_PREFIX = b"template-on/"

Puts = dict[bytes, bytes | None]


@dataclass(frozen=True)
class TemplateSeries:
    """One measurement of a template.

    Attributes:
        prefix: nodes between the device that the template is activated on and the measurement,
            joined by dots; mostly "".
        aligned: whether the device at the prefix is aligned.
        spec: name, type, encoding, compressor; nothing else is supported (sql.md 1.8).
    """

    prefix: str
    aligned: bool
    spec: SeriesSpec

    @property
    def path(self) -> str:
        """Path below the activated device."""
        return f"{self.prefix}.{self.spec.measurement}" if self.prefix else self.spec.measurement


@dataclass(frozen=True)
class Template:
    """A template, its measurements in the order in which they were added."""

    name: str
    aligned: bool
    series: tuple[TemplateSeries, ...]

    def find(self, path: str) -> TemplateSeries | None:
        """Return a measurement by its path below the device, or None."""
        return next((item for item in self.series if item.path == path), None)

    def devices(self) -> dict[tuple[str, bool], tuple[SeriesSpec, ...]]:
        """Return the specs by (prefix, aligned) of the device that they belong to."""
        found: dict[tuple[str, bool], tuple[SeriesSpec, ...]] = {}
        for item in self.series:
            key = item.prefix, item.aligned
            found[key] = (*found.get(key, ()), item.spec)
        return found


def activated_on(device: str, template: Template | None) -> str:
    """Return the device that an activation named, given one that it made series in."""
    for prefix, _ in template.devices() if template is not None else ():
        if prefix and device.endswith(f".{prefix}"):
            return device[: -len(prefix) - 1]
    return device


def undefined(name: str) -> ClusterError:
    """Return the error of a template that does not exist."""
    return ClusterError(StatusCode.UNDEFINED_TEMPLATE, f"Undefined template name: {name}")


def check_series(series: Sequence[TemplateSeries]) -> None:
    """Refuse measurements that no device could have.

    Raises:
        ClusterError: METADATA_ERROR or PATH_ILLEGAL.
    """
    seen: set[str] = set()
    for item in series:
        if item.prefix:
            split_path(f"root.{item.prefix}")
        validate_measurement_name(item.spec.measurement, item.path)
        problem = encoding_problem(item.spec.data_type, item.spec.encoding, item.spec.compressor)
        if item.path in seen:
            problem = f"Duplicated measurement name in schema template: {item.path}"
        if problem is not None:
            raise ClusterError(StatusCode.METADATA_ERROR, problem)
        seen.add(item.path)
    for path in seen:
        if any(other.startswith(f"{path}.") for other in seen):
            raise ClusterError(
                StatusCode.METADATA_ERROR, f"{path} can't be a measurement and have others below it"
            )


class TemplateState:
    """One thread changes, any thread reads: records are immutable and replaced in one step."""

    def __init__(self) -> None:
        self._templates: dict[str, Template] = {}
        self._set_on: dict[str, str] = {}

    def load(self, key: bytes, value: bytes) -> bool:
        """Take a stored record; False when the key is not of this kind.

        Raises:
            ValueError, TypeError: the record is damaged.
        """
        if key.startswith(TEMPLATE_PREFIX):
            name = key[len(TEMPLATE_PREFIX) :].decode()
            aligned, series = json.loads(value)
            self._templates[name] = Template(name, aligned, series_from_plain(series))
            return True
        if key.startswith(SET_PREFIX):
            self._set_on[key[len(SET_PREFIX) :].decode()] = value.decode()
            return True
        return False

    # ---- reading ----

    def template(self, name: str) -> Template | None:
        """Return a template, or None."""
        return self._templates.get(name)

    def names(self) -> list[str]:
        """Return the templates' names, sorted."""
        return sorted(self._templates)

    def set_on(self, path: str) -> str | None:
        """Return the template that is set on exactly this node, or None."""
        return self._set_on.get(path)

    def paths_of(self, name: str) -> list[str]:
        """Return the nodes that a template is set on, sorted; `*`: of any template."""
        pairs = list(self._set_on.items())
        return sorted(path for path, held in pairs if name in ("*", held))

    def of_device(self, nodes: Sequence[str]) -> tuple[str, Template] | None:
        """Return node and template that hold for a device: set on it or on an ancestor, or None."""
        if not self._set_on:
            return None
        for depth in range(len(nodes), 0, -1):
            path = join_path(nodes[:depth])
            name = self._set_on.get(path)
            if name is not None:
                return path, self._templates[name]
        return None

    # ---- changing ----

    def create(self, name: str, aligned: bool, series: Sequence[TemplateSeries]) -> Puts:
        """Define a template."""
        if name in self._templates:
            raise ClusterError(StatusCode.METADATA_ERROR, f"Duplicated template name: {name}")
        check_series(series)
        return self._put(Template(name, aligned, tuple(series)))

    def drop(self, name: str) -> Puts:
        """Forget a template that is set nowhere."""
        self._known(name)
        if name in self._set_on.values():
            raise ClusterError(
                StatusCode.METADATA_ERROR,
                f"Template [{name}] has been set on MTree, cannot be dropped now.",
            )
        del self._templates[name]
        return {TEMPLATE_PREFIX + name.encode(): None}

    def append(self, name: str, series: Sequence[TemplateSeries]) -> Puts:
        """Add measurements to a template."""
        template = self._known(name)
        after = (*template.series, *series)
        check_series(after)
        return self._put(replace(template, series=after))

    def prune(self, name: str, path: str) -> Puts:
        """Take a measurement, or all below a prefix, out of a template that is set nowhere."""
        template = self._known(name)
        if name in self._set_on.values():
            raise ClusterError(
                StatusCode.TEMPLATE_IS_IN_USE,
                f"Template [{name}] has been set on MTree, nothing can be taken out of it now.",
            )
        left = tuple(
            item
            for item in template.series
            if item.path != path and not item.path.startswith(f"{path}.")
        )
        if len(left) == len(template.series):
            raise ClusterError(StatusCode.METADATA_ERROR, f"Path [{path}] does not exist in {name}")
        return self._put(replace(template, series=left))

    def set(self, name: str, path: str) -> Puts:
        """Set a template on a node; refused where one holds or is set below already."""
        self._known(name)
        nodes = split_path(path)
        path = join_path(nodes)
        holding = self.of_device(nodes)
        below = min((other for other in self._set_on if other.startswith(f"{path}.")), default=None)
        if holding is not None or below is not None:
            raise ClusterError(
                StatusCode.METADATA_ERROR,
                f"Template already exists on {holding[0] if holding is not None else below}",
            )
        self._set_on[path] = name
        return {SET_PREFIX + path.encode(): name.encode()}

    def unset(self, name: str, path: str) -> Puts:
        """Take a template off a node; that no device uses it is the caller's to see."""
        self._known(name)
        path = join_path(split_path(path))
        held = self._set_on.get(path)
        if held is None:
            raise ClusterError(StatusCode.NO_TEMPLATE_ON_NODE, f"NO template on {path}")
        if held != name:
            raise ClusterError(
                StatusCode.DIFFERENT_TEMPLATE, f"The template on {path} is {held}, not {name}"
            )
        del self._set_on[path]
        return {SET_PREFIX + path.encode(): None}

    def unset_within(self, storage_group: str) -> Puts:
        """Take every template off a storage group that is dropped."""
        gone = [
            path
            for path in self._set_on
            if path == storage_group or path.startswith(f"{storage_group}.")
        ]
        for path in gone:
            del self._set_on[path]
        return {SET_PREFIX + path.encode(): None for path in gone}

    # ---- inside ----

    def _known(self, name: str) -> Template:
        template = self._templates.get(name)
        if template is None:
            raise undefined(name)
        return template

    def _put(self, template: Template) -> Puts:
        self._templates[template.name] = template
        record = [template.aligned, series_plain(template.series)]
        return {
            TEMPLATE_PREFIX + template.name.encode(): json.dumps(
                record, ensure_ascii=False, separators=(",", ":")
            ).encode()
        }


def series_plain(series: Sequence[TemplateSeries]) -> list[Any]:
    """Return measurements as JSON values."""
    return [
        [
            item.prefix,
            item.aligned,
            item.spec.measurement,
            int(item.spec.data_type),
            item.spec.encoding,
            item.spec.compressor,
        ]
        for item in series
    ]


def series_from_plain(plain: Any) -> tuple[TemplateSeries, ...]:  # noqa: ANN401
    """Read `series_plain` back; ValueError or TypeError when it is something else."""
    return tuple(
        TemplateSeries(prefix, aligned, SeriesSpec(name, DataType(data_type), encoding, compressor))
        for prefix, aligned, name, data_type, encoding, compressor in plain
    )
