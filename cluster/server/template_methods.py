"""Template methods of the client protocol (client-protocol 3.6)."""

from __future__ import annotations

import struct

from cluster.auth.privileges import Privilege
from cluster.errors import OK, ClusterError, StatusCode
from cluster.rpc.gen.client.ttypes import (
    TCreateTimeseriesUsingSchemaTemplateReq,
    TSAppendSchemaTemplateReq,
    TSCreateSchemaTemplateReq,
    TSDropSchemaTemplateReq,
    TSPruneSchemaTemplateReq,
    TSQueryTemplateReq,
    TSQueryTemplateResp,
    TSSetSchemaTemplateReq,
    TSSetUsingTemplateReq,
    TSStatus,
    TSUnsetSchemaTemplateReq,
)
from cluster.schema.series import SeriesSpec
from cluster.schema.templates import Template, TemplateSeries, undefined
from cluster.server.handler_base import HandlerBase, answers_status
from cluster.server.schema_methods import compressor_of, data_type_of

_I32 = struct.Struct(">i")


class TemplateMethods(HandlerBase):
    """Schema templates."""

    @answers_status
    def createSchemaTemplate(self, req: TSCreateSchemaTemplateReq) -> TSStatus:  # noqa: N802
        """Define a template, from the serialized form of 0.13 or the lists of 0.12."""
        self.writing_session(Privilege.UPDATE_TEMPLATE, ["root"])
        if req.serializedTemplate is not None:
            aligned, series = parse_template(req.serializedTemplate)
        else:
            aligned, series = _old_template(req)
        return self.wire(
            self.coordinator.templates.create(req.name, aligned, series, self.write_deadline())
        )

    @answers_status
    def appendSchemaTemplate(self, req: TSAppendSchemaTemplateReq) -> TSStatus:  # noqa: N802
        """Add measurements to a template; dots in a name make its prefix."""
        self.writing_session(Privilege.UPDATE_TEMPLATE, ["root"])
        lists = (req.dataTypes, req.encodings, req.compressors)
        if any(len(one) != len(req.measurements) for one in lists):
            raise ClusterError(
                StatusCode.ILLEGAL_PARAMETER,
                "measurements, types, encodings and compressors are not of one length",
            )
        series = []
        for number, name in enumerate(req.measurements):
            prefix, _, measurement = name.rpartition(".")
            series.append(
                TemplateSeries(
                    prefix,
                    bool(req.isAligned),
                    SeriesSpec(
                        measurement,
                        data_type_of(req.dataTypes[number]),
                        req.encodings[number],
                        compressor_of(req.compressors[number], self.generation()),
                    ),
                )
            )
        return self.wire(self.coordinator.templates.append(req.name, series, self.write_deadline()))

    @answers_status
    def pruneSchemaTemplate(self, req: TSPruneSchemaTemplateReq) -> TSStatus:  # noqa: N802
        """Take a measurement out of a template."""
        self.writing_session(Privilege.UPDATE_TEMPLATE, ["root"])
        return self.wire(
            self.coordinator.templates.prune(req.name, req.path, self.write_deadline())
        )

    @answers_status
    def dropSchemaTemplate(self, req: TSDropSchemaTemplateReq) -> TSStatus:  # noqa: N802
        """Forget a template."""
        self.writing_session(Privilege.UPDATE_TEMPLATE, ["root"])
        return self.wire(self.coordinator.templates.drop(req.templateName, self.write_deadline()))

    @answers_status
    def setSchemaTemplate(self, req: TSSetSchemaTemplateReq) -> TSStatus:  # noqa: N802
        """Set a template on a node."""
        self.writing_session(Privilege.APPLY_TEMPLATE, [req.prefixPath])
        return self.wire(
            self.coordinator.templates.set(req.templateName, req.prefixPath, self.write_deadline())
        )

    @answers_status
    def unsetSchemaTemplate(self, req: TSUnsetSchemaTemplateReq) -> TSStatus:  # noqa: N802
        """Take a template off a node."""
        self.writing_session(Privilege.APPLY_TEMPLATE, [req.prefixPath])
        return self.wire(
            self.coordinator.templates.unset(
                req.templateName, req.prefixPath, self.write_deadline()
            )
        )

    @answers_status
    def setUsingTemplate(self, req: TSSetUsingTemplateReq) -> TSStatus:  # noqa: N802
        """Activate the template that holds for a device."""
        self.writing_session(Privilege.APPLY_TEMPLATE, [req.dstPath])
        return self.wire(self.coordinator.templates.activate(req.dstPath, self.write_deadline()))

    @answers_status
    def unsetUsingTemplate(  # noqa: N802
        self,
        sessionId: int,  # noqa: N803
        templateName: str,  # noqa: N803
        prefixPath: str,  # noqa: N803
    ) -> TSStatus:
        """Deactivate a template on a device."""
        self.writing_session(Privilege.DELETE_TIMESERIES, [prefixPath])
        return self.wire(
            self.coordinator.templates.deactivate(templateName, [prefixPath], self.write_deadline())
        )

    @answers_status
    def createTimeseriesUsingSchemaTemplate(  # noqa: N802
        self, req: TCreateTimeseriesUsingSchemaTemplateReq
    ) -> TSStatus:
        """Activate the templates that hold for devices; each on its own."""
        self.writing_session(Privilege.APPLY_TEMPLATE, req.devicePathList)
        return self.wire_all(
            [
                self.coordinator.templates.activate(path, self.write_deadline())
                for path in req.devicePathList
            ],
            single=True,
        )

    def querySchemaTemplate(self, req: TSQueryTemplateReq) -> TSQueryTemplateResp:  # noqa: N802
        """Answer one of the seven questions about templates."""
        response = TSQueryTemplateResp(queryType=req.queryType)
        try:
            session = self.session()
            self.executor.authorizer.check(
                session.user, Privilege.READ_TIMESERIES, ["root"], self.write_deadline()
            )
            self._answer(req, response)
            response.status = self.wire(OK)
        except Exception as error:  # noqa: BLE001 - the request border: every error gets a status
            response.status = self.wire_error(error)
        return response

    # ---- inside ----

    def _answer(self, req: TSQueryTemplateReq, response: TSQueryTemplateResp) -> None:
        deadline = self.write_deadline()
        self.coordinator.sync_meta(deadline)
        templates = self.coordinator.meta_state.templates
        wanted = req.measurement or ""
        match req.queryType:
            case 0:
                response.count = len(self._template(req.name).series)
            case 1:
                response.result = self._template(req.name).find(wanted) is not None
            case 2:
                response.result = any(
                    item.path == wanted or item.path.startswith(f"{wanted}.")
                    for item in self._template(req.name).series
                )
            case 3:
                response.measurements = [
                    item.path
                    for item in self._template(req.name).series
                    if not wanted or item.path == wanted or item.path.startswith(f"{wanted}.")
                ]
            case 4:
                response.measurements = templates.names()
            case 5:
                self._check_known(req.name)
                response.measurements = templates.paths_of(req.name)
            case 6:
                self._check_known(req.name)
                response.measurements = [
                    device.path
                    for device in self.coordinator.templates.devices_using(req.name, deadline)
                ]
            case _:
                raise ClusterError(
                    StatusCode.ILLEGAL_PARAMETER, f"unknown question {req.queryType}"
                )

    def _check_known(self, name: str) -> None:
        """Refuse a name that is no template's; `*` is any."""
        if name != "*":
            self._template(name)

    def _template(self, name: str) -> Template:
        template = self.coordinator.meta_state.templates.template(name)
        if template is None:
            raise undefined(name)
        return template


def parse_template(data: bytes) -> tuple[bool, list[TemplateSeries]]:
    """Read the serialized form that clients of 0.13 and later send.

    Returns:
        Whether the template is aligned, and its measurements in the order they were added: the
        client sends them the other way round.

    Raises:
        ClusterError: ILLEGAL_PARAMETER, it is cut off or says nonsense.
    """
    reader = _Reader(data)
    reader.text()
    aligned = reader.flag()
    series = []
    while not reader.at_end:
        prefix, prefix_aligned, name = reader.text(), reader.flag(), reader.text()
        data_type, encoding, compressor = reader.byte(), reader.byte(), reader.byte()
        spec = SeriesSpec(name, data_type_of(data_type), encoding, compressor)
        series.append(TemplateSeries(prefix, prefix_aligned, spec))
    series.reverse()
    return aligned, series


class _Reader:
    """Reads a serialized template from its beginning."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def at_end(self) -> bool:
        return self._at == len(self._data)

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if size < 0 or end > len(self._data):
            raise ClusterError(StatusCode.ILLEGAL_PARAMETER, "the serialized template is cut off")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def byte(self) -> int:
        return self._take(1)[0]

    def flag(self) -> bool:
        return self.byte() != 0

    def text(self) -> str:
        (size,) = _I32.unpack(self._take(4))
        try:
            return self._take(size).decode()
        except UnicodeDecodeError as error:
            raise ClusterError(
                StatusCode.ILLEGAL_PARAMETER, f"a name in the serialized template: {error}"
            ) from error


def _old_template(req: TSCreateSchemaTemplateReq) -> tuple[bool, list[TemplateSeries]]:
    """Read the lists of 0.12: a list of one name is a series, a longer one an aligned group."""
    if req.measurements is None or req.dataTypes is None or req.encodings is None:
        raise ClusterError(StatusCode.ILLEGAL_PARAMETER, "the template has no measurements")
    compressors = req.compressors or []
    series = []
    aligned = False
    for number, names in enumerate(req.measurements):
        aligned = aligned or len(names) > 1
        for position, name in enumerate(names):
            compressor = compressors[number] if number < len(compressors) else 1
            spec = SeriesSpec(
                name,
                data_type_of(req.dataTypes[number][position]),
                req.encodings[number][position],
                compressor,
            )
            series.append(TemplateSeries("", len(names) > 1, spec))
    return aligned, [TemplateSeries(item.prefix, aligned, item.spec) for item in series]
