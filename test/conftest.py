"""What all tests share: Hypothesis does not judge time, and what they start keeps its byte code."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from harness import node_stem

# A busy machine is no bug of the product. Where time matters there is a bench.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Without byte code, as containers often have it, each of hundreds of processes would compile the
# whole project, and work out its parse tables.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Nor would each of as many nodes import the same modules.
node_stem.turn_on()

# Told to end, it ends as by Ctrl-C: fixtures stop the nodes that they have started.
signal.signal(signal.SIGTERM, signal.default_int_handler)

# sbin/run_tests.py looks for tests with these marks there only.
FOLDERS = {
    "integration": ("compat", "integration", "unit/sbin"),
    "compat": ("compat", "integration"),
    "quiet": ("integration",),
    "mutants": ("sim", "engine_model"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        for mark, folders in FOLDERS.items():
            is_there = any(item.path.is_relative_to(here / folder) for folder in folders)
            if item.get_closest_marker(mark) and not is_there:
                raise pytest.UsageError(f"{item.nodeid}: {mark} is for tests in {folders} only")
