from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import StatusCode
from cluster.schema.paths import PathPattern, split_path
from cluster.schema.series import DeviceInfo, NewSeries, SeriesInfo, SeriesSpec
from cluster.schema.tree import KEY_PREFIX, SchemaTree, SeriesOutcome
from harness.joining import join_all
from iotdb_engine.types import DataType

SG = 7


def spec(
    name: str,
    data_type: DataType = DataType.DOUBLE,
    *,
    alias: str | None = None,
    encoding: int = 0,
    tags: tuple[tuple[str, str], ...] = (),
    attributes: tuple[tuple[str, str], ...] = (),
) -> SeriesSpec:
    return SeriesSpec(name, data_type, encoding, 1, alias, (), tags, attributes)


class Stored:
    """A SchemaTree with what it asked to be stored."""

    def __init__(self) -> None:
        self.tree = SchemaTree()
        self.pairs: dict[bytes, bytes] = {}

    def create(
        self,
        device: str,
        *specs: SeriesSpec | str,
        aligned: bool = False,
        if_absent: bool = False,
        sg: tuple[int, str] = (SG, "root.sg"),
    ) -> list[SeriesOutcome]:
        new = NewSeries(
            sg[0],
            sg[1],
            device,
            aligned,
            tuple(spec(item) if isinstance(item, str) else item for item in specs),
            if_absent,
        )
        outcomes, puts = self.tree.create(new)
        self.store(puts)
        return outcomes

    def store(self, puts: dict[bytes, bytes | None]) -> None:
        for key, value in puts.items():
            assert key.startswith(KEY_PREFIX)
            if value is None:
                del self.pairs[key]
            else:
                self.pairs[key] = value

    def delete(self, *series_ids: int) -> list[SeriesInfo]:
        removed, puts = self.tree.delete(series_ids)
        self.store(puts)
        return removed

    def reloaded(self) -> SchemaTree:
        return SchemaTree.load(sorted(self.pairs.items()))


def paths(found: Sequence[SeriesInfo]) -> list[str]:
    return [info.path for info in found]


def match(tree: SchemaTree, text: str, *, prefix: bool = False) -> list[str]:
    return paths(tree.match(PathPattern.parse(text, prefix=prefix)))


def only(outcomes: list[SeriesOutcome]) -> SeriesOutcome:
    (outcome,) = outcomes
    return outcome


def test_create_resolve_reload() -> None:
    stored = Stored()
    one, two = stored.create(
        "root.sg.d", spec("s1", alias="speed", tags=(("k", "v"),)), spec("温", DataType.TEXT)
    )
    assert one.info is not None
    assert two.info is not None
    assert one.info.series_id == SG << 32
    assert two.info.series_id == SG << 32 | 1
    assert one.info.sg_id == SG
    for tree in (stored.tree, stored.reloaded()):
        assert tree.resolve(SG, "root.sg.d", ["s1", "speed", "温", "no"]) == (
            False,
            [one.info, one.info, two.info, None],
        )
        assert tree.resolve(SG, "root.sg.`d`", ["s1"]) == (False, [one.info])
        assert tree.resolve(SG, "root.sg.e", ["s1"]) == (None, [None])
        assert tree.resolve(8, "root.sg.d", ["s1"]) == (None, [None])
        assert tree.series(SG << 32) == one.info
        assert tree.series_count() == 2


def test_existing_series() -> None:
    stored = Stored()
    first = only(stored.create("root.sg.d", "s")).info
    refused = only(stored.create("root.sg.d", "s"))
    assert refused == (None, StatusCode.PATH_ALREADY_EXISTS, "Path [root.sg.d.s] already exist")
    assert only(stored.create("root.sg.d", "s", if_absent=True)) == (first, StatusCode.SUCCESS, "")
    other = only(stored.create("root.sg.d", spec("s", DataType.TEXT), if_absent=True))
    assert other.info == first
    assert other.status is StatusCode.PATH_ALREADY_EXISTS


def test_backquotes_name_the_same_device() -> None:
    stored = Stored()
    first = only(stored.create("root.sg.d", "s")).info
    assert only(stored.create("root.sg.`d`", "s", if_absent=True)).info == first
    assert first is not None
    assert first.path == "root.sg.d.s"


def test_aliases_are_names_of_their_device() -> None:
    stored = Stored()
    stored.create("root.sg.d", spec("s1", alias="a1"))
    clash = only(stored.create("root.sg.d", spec("s2", alias="a1")))
    assert clash[1:] == (
        StatusCode.ALIAS_ALREADY_EXISTS,
        "Alias [a1] for Path [root.sg.d.s2] already exists",
    )
    for bad in (spec("s2", alias="s1"), spec("s2", alias="s2")):
        assert only(stored.create("root.sg.d", bad)).status is StatusCode.ALIAS_ALREADY_EXISTS
    assert only(stored.create("root.sg.d", "a1")).status is StatusCode.PATH_ALREADY_EXISTS
    assert only(stored.create("root.sg.d", spec("s2", alias="time"))).status is (
        StatusCode.PATH_ILLEGAL
    )
    assert only(stored.create("root.sg.e", spec("s1", alias="a1"))).info is not None
    assert match(stored.tree, "root.sg.d.a1") == ["root.sg.d.s1"]
    assert match(stored.tree, "root.sg.*.a*") == ["root.sg.d.s1", "root.sg.e.s1"]


def test_nothing_below_a_measurement() -> None:
    stored = Stored()
    stored.create("root.sg.d", spec("s", alias="a"))
    for device in ("root.sg.d.s", "root.sg.d.s.x.y", "root.sg.d.a"):
        refused = only(stored.create(device, "t"))
        assert refused[:2] == (None, StatusCode.PATH_ALREADY_EXISTS)
        assert refused.message == "Path [root.sg.d.s] already exist"
    stored.create("root.sg.d.x.y", "t")
    assert only(stored.create("root.sg.d", "x")).status is StatusCode.PATH_ALREADY_EXISTS
    assert only(stored.create("root.sg.d.x", "y")).status is StatusCode.PATH_ALREADY_EXISTS
    assert only(stored.create("root.sg.d", spec("t", alias="x"))).status is (
        StatusCode.ALIAS_ALREADY_EXISTS
    )
    assert only(stored.create("root.sg", "s")).info is not None


def test_aligned_and_other_series_do_not_mix() -> None:
    stored = Stored()
    stored.create("root.sg.d", "s", aligned=True)
    refused = only(stored.create("root.sg.d", "t", if_absent=True))
    assert refused.status is StatusCode.ALIGNED_TIMESERIES_ERROR
    assert refused.message.endswith("(Path: root.sg.d)")
    refused = only(stored.create("root.sg.d", "s"))
    assert refused.status is StatusCode.PATH_ALREADY_EXISTS, "0.13 looks for that first"
    stored.create("root.sg.e", "s")
    refused = only(stored.create("root.sg.e", "t", aligned=True))
    assert refused.status is StatusCode.ALIGNED_TIMESERIES_ERROR
    refused = only(stored.create("root.sg.e", "s", aligned=True))
    assert refused.message == "Path [root.sg.e.s] already exist"
    refused = only(stored.create("root.sg.e", "s", aligned=True, if_absent=True))
    assert refused.status is StatusCode.ALIGNED_TIMESERIES_ERROR
    assert stored.tree.resolve(SG, "root.sg.d", [])[0] is True


def test_aligned_series_are_created_all_or_none() -> None:
    stored = Stored()
    stored.create("root.sg.d", "s", aligned=True)
    outcomes = stored.create("root.sg.d", "t", "s", "u", aligned=True)
    assert {item.status for item in outcomes} == {StatusCode.PATH_ALREADY_EXISTS}
    assert match(stored.tree, "root.**") == ["root.sg.d.s"]
    one, two = stored.create(
        "root.sg.d", "t", spec("s", DataType.TEXT), aligned=True, if_absent=True
    )
    assert one.status is StatusCode.SUCCESS
    assert two.status is StatusCode.PATH_ALREADY_EXISTS


@pytest.mark.parametrize(
    ("bad", "status", "said"),
    [
        (
            spec("s", DataType.BOOLEAN, encoding=4),
            StatusCode.METADATA_ERROR,
            "encoding TS_2DIFF does not support BOOLEAN",
        ),
        (spec("time"), StatusCode.PATH_ILLEGAL, "is not a legal path"),
        (spec("a.b"), StatusCode.PATH_ILLEGAL, "is not a legal path"),
        (spec("s*"), StatusCode.PATH_ILLEGAL, "is not a legal path"),
        (spec("s", tags=(("k", "v" * 700),)), StatusCode.METADATA_ERROR, "700"),
        (
            spec("s", tags=(("k", "v"),), attributes=(("k", "v"),)),
            StatusCode.METADATA_ERROR,
            "same property key [k]",
        ),
    ],
)
def test_refused_specs_leave_the_others(bad: SeriesSpec, status: StatusCode, said: str) -> None:
    stored = Stored()
    refused, created = stored.create("root.sg.d", bad, "good")
    assert refused.info is None
    assert refused.status is status
    assert said in refused.message
    assert created.status is StatusCode.SUCCESS
    assert match(stored.reloaded(), "root.**") == ["root.sg.d.good"]


def test_refused_devices() -> None:
    stored = Stored()
    for device in ("root.other.d", "root", "root.sgx.d", "root.sg.*", "root.sg..d", "x"):
        one, two = stored.create(device, "s", "t")
        assert one.status is not StatusCode.SUCCESS
        assert one == two
    assert stored.pairs == {}
    assert stored.tree.series_count() == 0


def test_ids_are_never_used_again() -> None:
    stored = Stored()
    created = stored.create("root.sg.d", "a", "b")
    last = created[1].info
    assert last is not None
    assert stored.delete(last.series_id, 12345) == [last]
    for tree in (stored.tree, stored.reloaded()):
        outcomes, _ = tree.create(NewSeries(SG, "root.sg", "root.sg.d", False, (spec("b"),), False))
        info = only(outcomes).info
        assert info is not None
        assert info.series_id == last.series_id + 1


def test_ids_are_not_used_again_when_everything_was_deleted() -> None:
    stored = Stored()
    stored.create("root.sg.d", "a")
    stored.delete(SG << 32)
    info = only(
        SchemaTree.load(sorted(stored.pairs.items())).create(
            NewSeries(SG, "root.sg", "root.sg.d", False, (spec("a"),), False)
        )[0]
    ).info
    assert info is not None
    assert info.series_id == SG << 32 | 1


def test_a_device_without_series_is_gone() -> None:
    stored = Stored()
    stored.create("root.sg.d.e", spec("s", alias="a"), aligned=True)
    stored.delete(SG << 32)
    assert stored.tree.resolve(SG, "root.sg.d.e", ["s", "a"]) == (None, [None, None])
    assert stored.tree.devices(PathPattern.parse("root.**")) == []
    assert only(stored.create("root.sg", "d")).info is not None
    assert match(stored.tree, "root.**") == ["root.sg.d"]


def test_drop_storage_groups() -> None:
    stored = Stored()
    stored.create("root.sg.d", "a", "b")
    stored.create("root.sh.d", "a", sg=(8, "root.sh"))
    count, puts = stored.tree.drop_storage_groups([SG, 99])
    stored.store(puts)
    assert count == 2
    for tree in (stored.tree, stored.reloaded()):
        assert match(tree, "root.**") == ["root.sh.d.a"]
        assert tree.series_count() == 1
    assert len(stored.pairs) == 2


def test_matching() -> None:
    stored = Stored()
    stored.create("root.sg.d2", "s2", "s1")
    stored.create("root.sg.d1", "s1", aligned=True)
    stored.create("root.sg", "s1")
    stored.create("root.sg.d1.x.y", "s1")
    stored.create("root.sh.d1", "s1", sg=(8, "root.sh"))
    tree = stored.tree
    everything = [
        "root.sg.s1",
        "root.sg.d1.s1",
        "root.sg.d1.x.y.s1",
        "root.sg.d2.s2",
        "root.sg.d2.s1",
        "root.sh.d1.s1",
    ]
    assert match(tree, "root.**") == everything
    assert match(tree, "root.sg.**") == everything[:5]
    assert match(tree, "root.sg", prefix=True) == everything[:5]
    assert match(tree, "root", prefix=True) == everything
    assert match(tree, "root.sg") == []
    assert match(tree, "root.*.*.s1") == ["root.sg.d1.s1", "root.sg.d2.s1", "root.sh.d1.s1"]
    assert match(tree, "root.**.s1") == [path for path in everything if path.endswith("s1")]
    assert match(tree, "root.sg.d*.*") == ["root.sg.d1.s1", "root.sg.d2.s2", "root.sg.d2.s1"]
    assert match(tree, "root.sg.s1") == ["root.sg.s1"]
    assert match(tree, "root.sg.d1.s1", prefix=True) == ["root.sg.d1.s1"]
    assert paths(tree.match(PathPattern.parse("root.**"), [8])) == ["root.sh.d1.s1"]
    assert paths(tree.match(PathPattern.parse("root.**"), [8, 8, 1])) == ["root.sh.d1.s1"]
    assert tree.match(PathPattern.parse("root.**"), []) == []
    assert tree.count(PathPattern.parse("root.sg.**")) == 5

    def devices(text: str, prefix: bool = False) -> list[str]:
        return [item.path for item in tree.devices(PathPattern.parse(text, prefix=prefix))]

    assert devices("root.**") == [
        "root.sg",
        "root.sg.d1",
        "root.sg.d1.x.y",
        "root.sg.d2",
        "root.sh.d1",
    ]
    assert devices("root.sg.**") == ["root.sg.d1", "root.sg.d1.x.y", "root.sg.d2"]
    assert devices("root.sg") == ["root.sg"]
    assert devices("root.sg.d1", prefix=True) == ["root.sg.d1", "root.sg.d1.x.y"]
    assert devices("root.sg.d1.s1") == []
    assert devices("root.sg.d1.x") == []
    assert tree.devices(PathPattern.parse("root.sg.d1")) == [
        DeviceInfo("root.sg.d1", "root.sg", True)
    ]


def test_devices_are_sorted_by_text() -> None:
    stored = Stored()
    for device in ("root.sg.a.b", "root.sg.a-b", "root.sg.a"):
        stored.create(device, "s")
    for pattern in ("root.**", "root.**.s", "root.sg.**.*"):
        found = [info.device for info in stored.tree.match(PathPattern.parse(pattern))]
        assert found == ["root.sg.a", "root.sg.a-b", "root.sg.a.b"]


def test_damaged_records_are_named() -> None:
    stored = Stored()
    stored.create("root.sg.d", "s")
    for key in stored.pairs:
        pairs = {**stored.pairs, key: b"[1]"}
        with pytest.raises(ValueError, match=r".+"):
            SchemaTree.load(sorted(pairs.items()))
    with pytest.raises(ValueError, match="damaged"):
        SchemaTree.load([(KEY_PREFIX + b"x", b"")])


def test_very_deep_paths() -> None:
    stored = Stored()
    device = "root.sg" + ".a" * 20_000
    assert only(stored.create(device, "s")).info is not None
    assert len(stored.tree.match(PathPattern.parse("root.**.s"))) == 1
    assert len(stored.delete(SG << 32)) == 1


def test_readers_beside_the_applier() -> None:
    tree = SchemaTree()
    stop = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                found = tree.match(PathPattern.parse("root.**"))
                assert len(found) % 3 == 0
                tree.resolve(SG, "root.sg.d5", ["a", "b"])
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(300):
        device = f"root.sg.d{number % 40}"
        new = NewSeries(SG, "root.sg", device, False, (spec("a"), spec("b"), spec("c")), True)
        outcomes, _ = tree.create(new)
        if number % 3 == 2:
            tree.delete([item.info.series_id for item in outcomes if item.info is not None])
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures


names = st.sampled_from(["a", "b", "ab"])
devices = st.lists(names, min_size=0, max_size=3).map(lambda nodes: ".".join(["root.sg", *nodes]))
patterns = st.builds(
    PathPattern,
    st.lists(names | st.sampled_from(["*", "**", "a*", "sg"]), max_size=5).map(
        lambda nodes: ("root", *nodes)
    ),
    st.booleans(),
)


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(devices, st.lists(names, min_size=1, max_size=3, unique=True))
        | st.integers(0, 12),
        max_size=12,
    ),
    patterns,
)
def test_equals_a_plain_dictionary(
    steps: list[tuple[str, list[str]] | int], pattern: PathPattern
) -> None:
    stored = Stored()
    model: dict[str, SeriesInfo] = {}  # by path
    for step in steps:
        if isinstance(step, int):
            removed = stored.delete(SG << 32 | step)
            expected = [info for info in model.values() if info.series_id == SG << 32 | step]
            assert removed == expected
            for info in removed:
                del model[info.path]
            continue
        device, measurements = step
        for name, outcome in zip(measurements, stored.create(device, *measurements), strict=True):
            path = f"{device}.{name}"
            inner = any(
                info.device == path or info.device.startswith(path + ".") for info in model.values()
            )
            below = any(device == known or device.startswith(known + ".") for known in model)
            assert (outcome.info is None) is (path in model or inner or below)
            if outcome.info is not None:
                model[path] = outcome.info
    for tree in (stored.tree, stored.reloaded()):
        matched = [info for path, info in model.items() if pattern.matches(split_path(path))]
        assert tree.match(pattern) == sorted(
            matched, key=lambda info: (info.device, info.series_id)
        )
        assert [item.path for item in tree.devices(pattern)] == sorted(
            {info.device for info in model.values() if pattern.matches(split_path(info.device))}
        )


def test_paths_that_are_looked_up_together_see_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = Stored()
    tree = stored.tree
    names = ("a", "b", "c", "d")
    creator = threading.Thread(target=lambda: stored.create("root.sg.d", *names))
    look_up = tree._named

    def slow(pattern: PathPattern, sg_ids: object) -> list[SeriesInfo]:
        found = look_up(pattern, sg_ids)  # type: ignore[arg-type]
        if pattern.nodes[-1] == "a":
            creator.start()
            creator.join(0.2)  # it gets no further while these look-ups last
        return found

    monkeypatch.setattr(tree, "_named", slow)
    patterns = [PathPattern(("root", "sg", "d", name)) for name in names]
    found = tree.match_all([(pattern, (SG,)) for pattern in patterns])
    join_all(creator)
    assert [len(series) for series in found] == [0, 0, 0, 0]
    monkeypatch.undo()
    found = tree.match_all([(pattern, (SG,)) for pattern in patterns])
    assert [len(series) for series in found] == [1, 1, 1, 1]
