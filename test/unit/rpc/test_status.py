"""Every status kind in every generation."""

from __future__ import annotations

import pytest

from cluster.errors import StatusCode
from cluster.rpc.gen.client.ttypes import TSStatus
from cluster.rpc.status import NAMES, TO_V1, Generation, to_wire, wire_code

OLD = [Generation.V0_12, Generation.V0_13]

# client-protocol 3.8, right column ("-": unused upstream)
TABLE = """
200 200   201 -     202 -     203 201   298 507   299 505   300 506   301 508   302 300   303 507
304 508   305 607   306 202   307 608   308 305   309 1105  310 1103  311 603   312 603   313 601
314 604   315 509   316 1100  317 602   318 303   319 609   320 511   321 512   322 500   323 1400
324 513   325 514   326 515   327 516   337 502   400 301   401 700   402 702   403 703   404 500
405 704   406 700   407 705   408 706   409 707   410 509   411 708   412 605   413 606   414 714
415 802   421 300   422 300   500 305   501 710   502 600   503 611   504 203   505 204   506 302
600 801   601 802   602 803   603 800   700 906   701 720   702 905   703 300   704 600   705 305
706 306   707 400   708 305   800 202
"""
CELLS = TABLE.split()
PAIRS = [(int(old), new) for old, new in zip(CELLS[::2], CELLS[1::2], strict=True)]
KINDS = sorted(NAMES)


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_table(old, new):
    if new != "-":
        assert wire_code(old, Generation.V1) == int(new)
    assert all(wire_code(old, generation) == old for generation in OLD)


def test_table_is_complete():
    # 0.13 has 74 codes; the reference counts 421 and 422, and 205 comes from 2.0
    assert {old for old, _ in PAIRS} | {205} == set(NAMES) == set(TO_V1)
    assert {int(code) for code in StatusCode} <= set(NAMES)


def test_dialect_code():
    assert wire_code(205, Generation.V1) == 205
    assert [wire_code(205, generation) for generation in OLD] == [703, 703]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("generation", list(Generation))
def test_every_failure_has_a_message(kind, generation):
    wire = to_wire(kind, "", generation)
    if wire.code != 200:
        assert wire.message
    assert to_wire(kind, "why", generation).message == "why"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sub", [None, [TSStatus(200), TSStatus(412, "no")]])
def test_codes_that_an_unknown_client_never_gets(kind, sub):
    wire = to_wire(kind, "", Generation.UNKNOWN, sub=sub)
    assert wire.code not in (302, 400, 506, 707)
    if kind not in (200, 707):
        assert wire.code != 200


@pytest.mark.parametrize("kind", KINDS)
def test_redirection_hint_is_never_an_error(kind):
    bare = to_wire(kind, "", Generation.V1)
    assert bare.code not in (400, 302)
    assert to_wire(kind, "", Generation.V0_13).code not in (707, 506)
    if kind != 707:
        assert to_wire(kind, "x", Generation.V1, sub=[TSStatus(200)]).code != 400


def test_multiple_error_carries_its_parts():
    for generation, code, part in ((Generation.V0_13, 506, 412), (Generation.V1, 302, 605)):
        sub = [to_wire(200, "", generation), to_wire(412, "full", generation)]
        wire = to_wire(StatusCode.MULTIPLE_ERROR, "412: full", generation, sub=sub)
        assert wire.code == code
        assert [item.code for item in wire.subStatus] == [200, part]


def test_multiple_error_of_an_unknown_client_is_one_plain_code():
    sub = [to_wire(200, "", Generation.UNKNOWN), to_wire(412, "full", Generation.UNKNOWN)]
    wire = to_wire(StatusCode.MULTIPLE_ERROR, "", Generation.UNKNOWN, sub=sub)
    assert (wire.code, wire.message, wire.subStatus) == (412, "412: full", None)


def test_redirect():
    for generation in Generation:
        for kind in (200, 707):
            wire = to_wire(kind, "", generation, redirect=("10.0.0.7", 6667))
            assert (wire.code, wire.redirectNode.ip, wire.redirectNode.port) == (
                200,
                "10.0.0.7",
                6667,
            )
        assert to_wire(200, "", generation, redirect=("0.0.0.0", 6667)).redirectNode is None
    sub = [to_wire(200, "", Generation.V1, redirect=("h", 1))]
    batch = to_wire(707, "", Generation.V1, sub=sub)
    assert batch.code == 400
    assert batch.subStatus == sub


def test_unknown_kind_is_an_internal_error():
    assert to_wire(999, "", Generation.V0_13).code == 500
    assert to_wire(999, "", Generation.V1).code == 305
