"""The parts of the whole check: side by side, printed whole, and none of the tests left out."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

SBIN = Path(__file__).resolve().parents[3] / "sbin"


def load():
    spec = spec_from_file_location("sbin_run_tests", SBIN / "run_tests.py")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


run_tests = load()


def shell(name, script, **more):
    return run_tests.Part(name, ["sh", "-c", script], **more)


@pytest.mark.parametrize("marked", list(itertools.product([False, True], repeat=4)), ids=str)
def test_a_test_is_in_one_part_whatever_its_marks(marked):
    marks = dict(zip(("integration", "compat", "quiet", "mutants"), marked, strict=True))
    chosen = [name for name, wanted in run_tests.MARKS.items() if eval(wanted, {}, marks)]
    assert len(chosen) == 1


def test_parts_look_where_their_tests_are(pytestconfig):
    folders = next(
        plugin.FOLDERS
        for plugin in pytestconfig.pluginmanager.get_plugins()
        if hasattr(plugin, "FOLDERS")
    )
    assert {
        mark: tuple(f"test/{name}" for name in names) for mark, names in folders.items()
    } == run_tests.FOLDERS


def test_every_part_is_run_once():
    names = [part.name for part in itertools.chain(*run_tests.lanes(), [run_tests.LAST])]
    assert len(set(names)) == len(names)
    checks = {check.name for check in run_tests.CHECKS}
    assert set(names) == {*run_tests.MARKS, *run_tests.UNIT_FOLDERS, *checks}


def test_what_is_taken_out_of_a_part_is_in_another_one():
    commands = {part.name: part.command for part in itertools.chain(*run_tests.lanes())}
    ignored = [word for word in commands["unit"] if word.startswith("--ignore=")]
    assert ignored
    for name, folders in run_tests.UNIT_FOLDERS.items():
        assert commands[name][-len(folders) :] == list(folders)
        assert run_tests.MARKS["unit"] in commands[name]
        for folder in folders:
            assert (SBIN.parent / folder).is_dir()
            ignored.remove(f"--ignore={folder}")
    assert not ignored


def test_lanes_with_one_row_take_each_part_of_it_once(tmp_path):
    """The one that is free first takes the next, so the long part keeps nobody waiting."""
    parts = run_tests.SideBySide(lambda _text: None)
    long = shell("long", f"while [ ! -e {tmp_path}/end ]; do sleep 0.01; done")
    row = iter([long, shell("short", "true"), shell("end", f"touch {tmp_path}/end")])
    parts.run([row, row])
    assert parts.outcomes[0].name == "short"
    assert sorted(outcome.name for outcome in parts.outcomes) == ["end", "long", "short"]


def test_lanes_run_side_by_side_and_are_printed_whole(tmp_path):
    """Each waits for the other one's file, so neither can end before the other has begun."""
    wait = "echo {0} 1; touch {0}; while [ ! -e {1} ]; do sleep 0.01; done; echo {0} 2"
    said = []
    parts = run_tests.SideBySide(said.append)
    here, there = tmp_path / "here", tmp_path / "there"
    parts.run(
        [
            [shell("a", wait.format(here, there)), shell("after a", "echo third")],
            [shell("b", wait.format(there, here), niceness=5)],
        ]
    )
    texts = [text for text in said if text.startswith("\n==>")]
    assert sorted(texts) == [
        f"\n==> a\n{here} 1\n{here} 2\n",
        "\n==> after a\nthird\n",
        f"\n==> b\n{there} 1\n{there} 2\n",
    ]
    assert [outcome.ok for outcome in parts.outcomes] == [True] * 3


def test_niceness_is_that_of_the_part_only():
    said = []
    parts = run_tests.SideBySide(said.append)
    parts.run([[shell("nice", "nice", niceness=3), shell("as we are", "nice")]])
    own = os.nice(0)  # adds nothing, and tells
    assert f"\n==> nice\n{min(own + 3, 19)}\n" in said
    assert f"\n==> as we are\n{own}\n" in said


def test_a_failed_part_is_told_and_the_others_go_on():
    parts = run_tests.SideBySide(lambda _text: None)
    fails = shell("fails", "exit 3")
    excused = shell("excused", "exit 2", excuses={2: "no compiler"})
    parts.run([[fails, excused, shell("works", "true")]])
    assert [(outcome.name, outcome.ok, outcome.text) for outcome in parts.outcomes] == [
        ("fails", False, "FAILED (3)"),
        ("excused", True, "no compiler"),
        ("works", True, "ok"),
    ]
    lines = run_tests.summary(parts.outcomes).splitlines()
    assert lines[1] == "==> summary"
    assert lines[2].startswith("fails ")
    assert lines[2].endswith("  FAILED (3)")


def test_a_processors_time_counts_descendants():
    [outcome] = run_tests.run_here(
        [shell("busy", "sh -c 'i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done'")]
    )
    assert outcome.processor_s > 0


@pytest.mark.parametrize("arguments", [[], ["-x"]], ids=["side by side", "here"])
def test_told_to_end_it_interrupts_what_runs(tmp_path, arguments):
    """As by Ctrl-C, so that fixtures stop their nodes; what has not begun never does."""
    trap = (
        f"trap 'touch {tmp_path}/trapped; exit 1' INT; touch {tmp_path}/begun; "
        "while :; do sleep 0.01; done"
    )
    program = f"""
import sys
sys.path.insert(0, {str(SBIN)!r})
import run_tests as r
r.CHECKS = ()
r.WAITING = (r.Part("waits", ["bash", "-c", {trap!r}]),
             r.Part("never", ["touch", {str(tmp_path / "never")!r}]))
r.COMPUTING = ()
r.LAST = r.Part("last", ["touch", {str(tmp_path / "never")!r}])
r._pytest = lambda *_: ["bash", "-c", {trap!r}]
sys.exit(r.main(sys.argv[1:]))
"""
    process = subprocess.Popen([sys.executable, "-c", program, *arguments])
    try:
        while not (tmp_path / "begun").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / "trapped").exists()
    assert not (tmp_path / "never").exists()
