"""What a node in the background says is kept in a few files of bounded size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import logging, os, sys
from pathlib import Path
from cluster.output_file import RotatedOutput
logging.basicConfig(
    level="INFO", format="%(message)s",
    handlers=[RotatedOutput(Path(sys.argv[1]), max_bytes=1000, older_files=2)],
)
for number in range(100):
    logging.info("line %d %s", number, "x" * 90)
os.write(2, b"from elsewhere\\n")
print("out")
"""


def run_script(path: Path, out: Path | None = None, code: str = SCRIPT) -> None:
    with (out or path).open("ab") as file:
        command = [sys.executable, "-c", code, str(path)]
        subprocess.run(command, stdout=file, stderr=file, timeout=60, check=True)


def test_a_file_that_has_grown_makes_room_for_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "node.log"
    run_script(path)
    kept = [tmp_path / "node.log.2", tmp_path / "node.log.1", path]
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    lines = "".join(file.read_text() for file in kept).splitlines()
    # the newest lines, none missing; what does not go through logging lands there, too
    numbers = [int(line.split()[1]) for line in lines if line.startswith("line")]
    assert numbers == list(range(numbers[0], 100))
    assert len(numbers) > 15
    assert lines[-2:] == ["from elsewhere", "out"]
    assert all(1000 <= file.stat().st_size < 1200 for file in kept[:2])


def test_output_that_goes_elsewhere_is_left_alone(tmp_path: Path) -> None:
    path, out = tmp_path / "node.log", tmp_path / "terminal"
    run_script(path, out)
    assert list(tmp_path.iterdir()) == [out]
    assert out.read_text().count("line") == 100


def test_where_no_new_file_can_be_made_the_old_one_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "node.log"
    refuse = "import os\nreal = os.open\n" + SCRIPT.replace(
        "for number", "def no(*_, **__): raise OSError(28, 'full')\nos.open = no\nfor number", 1
    )
    run_script(path, code=refuse)
    assert list(tmp_path.iterdir()) == [path]
    text = path.read_text()
    assert text.count("line") == 100
    assert "full" in text
    assert "Traceback" not in text
