from __future__ import annotations

import datetime as dt

import pytest

from iotdb_client import conninfo
from iotdb_client.conninfo import local_zone_name, parse_conninfo, parse_zone
from iotdb_client.errors import ProgrammingError


def parse(text, **changes):
    defaults = {
        "user": "root",
        "password": "root",
        "fetch_size": 10,
        "timeout_s": 5.0,
        "zone": "UTC",
    }
    return parse_conninfo(text, **{**defaults, **changes})


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("jdbc:iotdb://127.0.0.1:6667/", [("127.0.0.1", 6667)]),
        ("127.0.0.1:6667/", [("127.0.0.1", 6667)]),
        ("h1:1,h2:2/?fetch_size=5", [("h1", 1), ("h2", 2)]),
        ("h1?fetch_size=5", [("h1", 6667)]),
        ("jdbc:iotdb://db", [("db", 6667)]),
        ("db:7000", [("db", 7000)]),
        ("db:7000/", [("db", 7000)]),
        ("a:1,b:2 , c", [("a", 1), ("b", 2), ("c", 6667)]),
        ("jdbc:iotdb://[::1]:6668,b/", [("::1", 6668), ("b", 6667)]),
    ],
)
def test_hosts(text, hosts):
    assert parse(text).hosts == tuple(hosts)


def test_url_parameters_win():
    info = parse(
        "jdbc:iotdb://h:1/?user=u&password=p%26q&fetch_size=7&timeout_s=1.5"
        "&time_zone=%2B08:00&rpc_compress=true",
        user="x",
        zone="UTC",
    )
    assert (info.user, info.password, info.fetch_size, info.timeout_s) == ("u", "p&q", 7, 1.5)
    assert (info.zone, info.rpc_compress) == ("+08:00", True)


def test_a_login_may_stand_before_the_hosts():
    info = parse("iotdb://u%40x:p%3A%2F@h:1,[::1]:2/?fetch_size=7", user="x")
    assert (info.user, info.password, info.fetch_size) == ("u@x", "p:/", 7)
    assert info.hosts == (("h", 1), ("::1", 2))
    info = parse("jdbc:iotdb://u@h/", password="given")
    assert (info.user, info.password, info.hosts) == ("u", "given", (("h", 6667),))
    assert parse("iotdb://u:p@h/?user=other").user == "other"


def test_a_password_is_not_in_messages():
    for text in (
        "iotdb://u:secret@h:x/",
        "iotdb://u:secret@h/db",
        "iotdb://h,u:secret@i/",
        "http://u:secret@h/",
        "jdbc:mysql://h/?password=secret",
    ):
        with pytest.raises(ProgrammingError) as caught:
            parse(text)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jdbc:mysql://h/", "form jdbc:iotdb"),
        ("http://h/", "form jdbc:iotdb"),
        ("h:1:2", "is not a host"),
        ("", "is not a host"),
        ("h:0", "port"),
        ("h:70000", "port"),
        ("jdbc:iotdb://h/db", "path"),
        ("h:6667/?fetchsize=5", "unknown parameter 'fetchsize'"),
        ("jdbc:iotdb://h/?usr=x", "unknown parameter 'usr'.*user"),
        ("jdbc:iotdb://h/?fetch_size=many", "fetch_size='many'"),
        ("jdbc:iotdb://h/?fetch_size=0", "positive"),
        ("jdbc:iotdb://h/?rpc_compress=1", "rpc_compress"),
        ("jdbc:iotdb://h/?time_zone=Mars", "time zone"),
        ("jdbc:iotdb://h/?timeout_s=nan", "timeout_s must be a number of seconds.* not nan"),
        ("jdbc:iotdb://h/?timeout_s=inf", "timeout_s must be .*None.* not inf"),
        ("jdbc:iotdb://h/?timeout_s=1e18", r"timeout_s must be .* not 1e\+18"),
        ("jdbc:iotdb://h/?retry_s=nan", "retry_s must be a number of seconds.* not nan"),
    ],
)
def test_what_cannot_be_understood_is_named(text, message):
    with pytest.raises(ProgrammingError, match=message):
        parse(text)


@pytest.mark.parametrize("wrong", ["5", 0, -1, float("nan"), True])
def test_a_timeout_is_a_number_of_seconds(wrong):
    with pytest.raises(ProgrammingError, match="timeout_s must be a number of seconds"):
        parse("h", timeout_s=wrong)
    assert parse("h", timeout_s=None).timeout_s is None
    assert parse("h", timeout_s=1).timeout_s == 1


@pytest.mark.parametrize(
    ("text", "hours"),
    [("Z", 0), ("UTC", 0), ("+8", 8), ("+0800", 8), ("-05:30", -5.5), ("UTC+8", 8), ("GMT-3", -3)],
)
def test_offsets(text, hours):
    moment = dt.datetime(2022, 1, 1, tzinfo=parse_zone(text))
    assert moment.utcoffset() == dt.timedelta(hours=hours)


def test_zone_names_and_nonsense():
    summer = dt.datetime(2022, 7, 1, tzinfo=parse_zone("Europe/Berlin"))
    assert summer.utcoffset() == dt.timedelta(hours=2)
    for text in ("+19:00", "Nowhere/At", "../etc/passwd", "", "8"):
        with pytest.raises(ProgrammingError):
            parse_zone(text)


def test_the_local_zone(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert local_zone_name() == "Asia/Tokyo"
    monkeypatch.setenv("TZ", "nonsense")
    assert parse_zone(local_zone_name()) is not None
    assert parse_zone(parse("h", zone=None).zone) is not None
    assert conninfo.DEFAULT_PORT == 6667
