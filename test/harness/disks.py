"""A small file system of its own for a node, in a file, that can be filled and be made slow.

Needs root: it mounts an ext4 image through a loop device.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from pathlib import Path

_FREEZE = 'while [ -e "$1" ]; do fsfreeze -f "$2"; sleep "$3"; fsfreeze -u "$2"; sleep 0.02; done'


def unavailable() -> str:
    """Why no file system can be mounted here, or "" when it can."""
    if os.geteuid() != 0:
        return "loop mounts need root"
    for tool in ("mkfs.ext4", "mount", "umount", "fsfreeze"):
        if shutil.which(tool) is None:
            return f"loop mounts need the command {tool}"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices"
    return ""


class Disk:
    """A mounted image; `close` takes it away, its contents stay in the image file."""

    def __init__(self, image: Path, at: Path, size_mb: int) -> None:
        self.image = image
        self.at = at
        self._ballast = at / "ballast"
        self._slow = image.with_suffix(".slow")
        self._pulse: subprocess.Popen[bytes] | None = None
        with image.open("wb") as file:
            file.truncate(size_mb << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
        at.mkdir(parents=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(at)], check=True)

    def close(self) -> None:
        self.normal_speed()
        for _ in range(50):
            done = subprocess.run(["umount", str(self.at)], capture_output=True, check=False)
            if done.returncode == 0:
                return
            time.sleep(0.1)
        subprocess.run(["umount", "--lazy", str(self.at)], check=False)

    def fill(self) -> None:
        """Leave not one free block."""
        with self._ballast.open("ab") as ballast:
            size = ballast.tell()
            step = 1 << 24
            while step >= 1024:
                try:
                    os.posix_fallocate(ballast.fileno(), size, step)
                    size += step
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    step //= 2

    def is_full(self) -> bool:
        """Whether a new file can't even hold a block."""
        probe = self.at / "probe"
        try:
            with probe.open("wb") as file:
                file.write(bytes(8192))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return True
        finally:
            probe.unlink(missing_ok=True)
        return False

    def make_room(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def slow_down(self, stall_s: float) -> None:
        """From now on writes and syncs stall for `stall_s` again and again.

        The file system is frozen and thawed by a process of its own, which ends with its flag
        file's removal or at a thaw if this process is gone.
        """
        self._slow.touch()
        self._pulse = subprocess.Popen(
            ["sh", "-c", _FREEZE, "sh", str(self._slow), str(self.at), str(stall_s)]
        )

    def normal_speed(self) -> None:
        self._slow.unlink(missing_ok=True)
        if self._pulse is not None:
            self._pulse.wait(60)
            self._pulse = None

    def worst_sync_s(self, for_s: float) -> float:
        """The longest time of a small synced write, of those that fit into `for_s`."""
        probe = self.at / "probe"
        worst = 0.0
        end = time.monotonic() + for_s
        with probe.open("wb") as file:
            while (began := time.monotonic()) < end:
                file.write(b"x")
                file.flush()
                os.fsync(file.fileno())
                worst = max(worst, time.monotonic() - began)
        probe.unlink()
        return worst
