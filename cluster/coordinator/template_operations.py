"""Schema templates over the cluster: setting, activating and deactivating them (sql.md 1.8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cluster.coordinator.cluster_backend import ClusterBackend
from cluster.coordinator.groups_access import GroupsAccess
from cluster.coordinator.plan_router import PlanRouter
from cluster.coordinator.schema_cache import SchemaCache
from cluster.coordinator.storage_groups import StorageGroups
from cluster.errors import OK, ClusterError, Status, StatusCode
from cluster.plan.plans import CreateSeriesPlan, TemplateAction, TemplatePlan
from cluster.rpc.deadline import Deadline
from cluster.schema.meta_state import MetaState
from cluster.schema.paths import PathPattern, join_path, split_path
from cluster.schema.series import DeviceInfo, SeriesInfo
from cluster.schema.templates import Template, TemplateSeries, activated_on, undefined


class TemplateOperations:
    """Definitions live in the meta group, what activation makes in the schema groups; thread-safe.

    That a template is in use, or clashes with what exists, is looked up before the meta group is
    asked to change anything. A device that is activated in between keeps its series, as ordinary
    ones: nothing is lost.
    """

    def __init__(
        self,
        *,
        access: GroupsAccess,
        router: PlanRouter,
        storage_groups: StorageGroups,
        cache: SchemaCache,
        meta_state: Callable[[], MetaState],
        backend: Callable[[Deadline], ClusterBackend],
        delete: Callable[[Sequence[SeriesInfo], Deadline], Status],
    ) -> None:
        self._access = access
        self._router = router
        self._storage_groups = storage_groups
        self._cache = cache
        self._meta_state = meta_state
        self._backend = backend
        self._delete = delete

    # ---- definitions ----

    def create(
        self, name: str, aligned: bool, series: Sequence[TemplateSeries], deadline: Deadline
    ) -> Status:
        """Define a template."""
        return self._change(
            TemplatePlan(TemplateAction.CREATE, name, aligned=aligned, series=tuple(series)),
            deadline,
        )

    def drop(self, name: str, deadline: Deadline) -> Status:
        """Forget a template that is set nowhere."""
        return self._change(TemplatePlan(TemplateAction.DROP, name), deadline)

    def append(self, name: str, series: Sequence[TemplateSeries], deadline: Deadline) -> Status:
        """Add measurements, also to the devices that use the template."""
        status = self._change(
            TemplatePlan(TemplateAction.APPEND, name, series=tuple(series)), deadline
        )
        if not status.ok:
            return status
        template = self.known(name, deadline)
        for device in self.devices_using(name, deadline):
            made = self._activate(device.path, template, deadline)
            if not made.ok:
                return made
        return OK

    def prune(self, name: str, path: str, deadline: Deadline) -> Status:
        """Take a measurement out of a template that is set nowhere."""
        return self._change(TemplatePlan(TemplateAction.PRUNE, name, path), deadline)

    # ---- nodes ----

    def set(self, name: str, path: str, deadline: Deadline) -> Status:
        """Set a template on a node, creating its storage group where configured."""
        template = self.known(name, deadline)
        path = join_path(split_path(path))
        if self._storage_groups.inside(path) is None:
            self._storage_groups.of_device(path, deadline)
        names = {item.path.partition(".")[0] for item in template.series}
        pattern = PathPattern((*split_path(path), "*"))
        children = {split_path(child)[-1] for child in self._backend(deadline).node_types(pattern)}
        if names & children:
            return Status(
                StatusCode.TEMPLATE_INCOMPATIBLE,
                f"Incompatible template [{name}] on {path}: "
                f"{path}.{min(names & children)} exists already",
            )
        return self._change(TemplatePlan(TemplateAction.SET, name, path), deadline)

    def unset(self, name: str, path: str, deadline: Deadline) -> Status:
        """Take a template off a node on and below which no device uses it."""
        self.known(name, deadline)
        path = join_path(split_path(path))
        if self._meta_state().templates.set_on(path) == name:
            below = PathPattern(split_path(path), prefix=True)
            if self.devices_using(name, deadline, below):
                return Status(StatusCode.TEMPLATE_IS_IN_USE, f"Template is in use on {path}")
        return self._change(TemplatePlan(TemplateAction.UNSET, name, path), deadline)

    def devices_using(
        self, name: str, deadline: Deadline, pattern: PathPattern | None = None
    ) -> list[DeviceInfo]:
        """Return the devices that a template (`*`: any) is activated on, by path."""
        found: dict[str, DeviceInfo] = {}
        devices = self._backend(deadline).match_devices(pattern or PathPattern(("root", "**")))
        for device in devices:
            if not device.template or name not in ("*", device.template):
                continue
            path = self._activated_on(device.path, device.template)
            found.setdefault(path, device if path == device.path else _at(device, path))
        return sorted(found.values(), key=lambda device: device.path)

    def activate(self, path: str, deadline: Deadline) -> Status:
        """Make a template's series on a device on or above which it is set."""
        self._access.sync_meta(deadline)
        nodes = split_path(path)
        holding = self._meta_state().templates.of_device(nodes)
        if holding is None:
            return Status(
                StatusCode.METADATA_ERROR, f"Path [{path}] has not been set any template."
            )
        _, template = holding
        path = join_path(nodes)
        used = self._backend(deadline).match_devices(PathPattern(nodes))
        if any(device.template == template.name for device in used):
            return Status(StatusCode.TEMPLATE_IS_IN_USE, f"Template is in use on {path}")
        return self._activate(path, template, deadline)

    def deactivate(
        self, name: str, patterns: Sequence[str], deadline: Deadline, *, prefix: bool = False
    ) -> Status:
        """Delete the series, with their points, that a template made on matching devices.

        Args:
            name: of the template; `*`: of any.
            patterns: against the devices that it is activated on.
            deadline: of the whole.
            prefix: whether patterns mean what they meant in 0.12.
        """
        if name != "*":
            self.known(name, deadline)
        compiled = [PathPattern.parse(text, prefix=prefix) for text in patterns]
        gone = []
        for device in self.devices_using(name, deadline):
            nodes = split_path(device.path)
            if not any(pattern.matches(nodes) for pattern in compiled):
                continue
            below = PathPattern((*nodes, "**"))
            gone += [
                info
                for info in self._backend(deadline).match_series(below)
                if info.template == device.template and self._made_on(info) == device.path
            ]
        return self._delete(gone, deadline) if gone else OK

    def activate_for_insert(
        self, device: str, measurements: Sequence[str], deadline: Deadline, *, aligned: bool
    ) -> bool:
        """Activate the template that holds for a device if it has one of some missing measurements.

        Returns:
            Whether series were made: what is known of the device is out of date then.

        Raises:
            ClusterError: the template can't be activated there, or the rows are of another kind.
        """
        self._access.sync_meta(deadline)
        holding = self._meta_state().templates.of_device(split_path(device))
        if holding is None or all(holding[1].find(name) is None for name in measurements):
            return False
        if holding[1].aligned != aligned:
            raise alignment_error(device, aligned=holding[1].aligned)
        status = self._activate(join_path(split_path(device)), holding[1], deadline)
        if not status.ok:
            raise ClusterError(status.code, status.message)
        return True

    # ---- inside ----

    def _activate(self, path: str, template: Template, deadline: Deadline) -> Status:
        storage_group = self._storage_groups.of_device(path, deadline)
        for (prefix, aligned), specs in template.devices().items():
            device = f"{path}.{prefix}" if prefix else path
            plan = CreateSeriesPlan(
                sg_id=storage_group.sg_id,
                sg_path=storage_group.path,
                device=device,
                aligned=aligned,
                specs=specs,
                if_absent=True,
                template=template.name,
            )
            group_id = self._router.schema_group(storage_group.path)
            outcomes = self._access.execute_data(group_id, plan, deadline)
            self._cache.forget_device(device)
            for outcome in outcomes:
                if outcome.status != StatusCode.SUCCESS:
                    return Status(outcome.status, outcome.message)
        return OK

    def _made_on(self, info: SeriesInfo) -> str:
        return self._activated_on(info.device, info.template)

    def _activated_on(self, device: str, name: str) -> str:
        return activated_on(device, self._meta_state().templates.template(name))

    def known(self, name: str, deadline: Deadline) -> Template:
        """Return a template; raises ClusterError when there is none."""
        self._access.sync_meta(deadline)
        template = self._meta_state().templates.template(name)
        if template is None:
            raise undefined(name)
        return template

    def _change(self, plan: TemplatePlan, deadline: Deadline) -> Status:
        outcome = self._access.execute_meta(plan, deadline)
        self._access.announce_meta(deadline)
        return Status(outcome.status, outcome.message)


def _at(device: DeviceInfo, path: str) -> DeviceInfo:
    return DeviceInfo(path, device.storage_group, device.aligned, device.template)


def alignment_error(device: str, *, aligned: bool) -> ClusterError:
    """Return the error of rows that are aligned where the device is not, or the reverse."""
    kind, interface = ("aligned", "aligned") if aligned else ("not aligned", "non-aligned")
    return ClusterError(
        StatusCode.ALIGNED_TIMESERIES_ERROR,
        f"timeseries under this device are {kind}, please use {interface} interface "
        f"(Path: {device})",
    )
