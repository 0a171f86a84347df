"""Small disks fill up, get slow, and recover."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import disks
from harness.disks import Disk

pytestmark = pytest.mark.skipif(bool(disks.unavailable()), reason=disks.unavailable() or "-")


def test_full_and_slow(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "a.img", tmp_path / "a", 32)
    try:
        assert not disk.is_full()
        disk.fill()
        assert disk.is_full()
        disk.make_room()
        assert not disk.is_full()
        disk.slow_down(0.2)
        assert disk.worst_sync_s(1) > 0.15
        disk.normal_speed()
        (tmp_path / "a" / "x").write_bytes(b"1")
        assert disk.worst_sync_s(0.3) < 0.15
    finally:
        disk.close()
    assert not (tmp_path / "a" / "x").exists()
