"""What setup.cfg says of the packages is what the tree holds: a wheel lacks nothing."""

from __future__ import annotations

import ast
import configparser
import importlib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("cluster", "iotdb_engine", "iotdb_client")


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    assert parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def test_every_folder_with_code_is_a_package() -> None:
    for top in PACKAGES:
        for path in (ROOT / top).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), f"{path.parent} is no package"


def test_data_files_of_packages_are_declared(setup_cfg: configparser.ConfigParser) -> None:
    declared = {
        package: [part.strip() for part in patterns.split(",")]
        for package, patterns in setup_cfg["options.package_data"].items()
    }
    for top in PACKAGES:
        for path in (ROOT / top).rglob("*"):
            if path.is_dir() or path.suffix == ".py" or "__pycache__" in path.parts:
                continue
            owner = next(
                name
                for name in sorted(declared, key=len, reverse=True)
                if path.is_relative_to(ROOT / name.replace(".", "/"))
            )
            inside = path.relative_to(ROOT / owner.replace(".", "/")).as_posix()
            assert any(fnmatch(inside, pattern) for pattern in declared[owner]), path


def test_entry_points_lead_somewhere(setup_cfg: configparser.ConfigParser) -> None:
    for group in ("console_scripts", "sqlalchemy.dialects"):
        for line in lines(setup_cfg["options.entry_points"][group]):
            module, name = line.partition("=")[2].strip().split(":")
            assert callable(getattr(importlib.import_module(module), name)), line


def test_dependencies_have_lower_bounds_and_a_reason(setup_cfg: configparser.ConfigParser) -> None:
    told = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8").lower()
    extras = [text for _, text in setup_cfg["options.extras_require"].items()]
    for text in (setup_cfg["options"]["install_requires"], *extras):
        for line in lines(text):
            name, bound, _ = line.partition(">=")
            assert bound, f"{line} has no lower bound"
            assert name.lower() in told, f"docs/dependencies.md says nothing of {name}"


def test_no_class_needs_a_later_python_than_setup_cfg_says(
    setup_cfg: configparser.ConfigParser,
) -> None:
    """Linters know the syntax of a release, but not what classes of its library may be bases."""
    assert setup_cfg["options"]["python_requires"] == ">=3.10"
    found = []
    for path in (file for top in PACKAGES for file in (ROOT / top).rglob("*.py")):
        for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(item, ast.ClassDef):
                bases = [ast.unparse(base) for base in item.bases]
                # both of 3.11
                generic_tuple = "NamedTuple" in bases and len(bases) > 1
                if generic_tuple or any(
                    base.startswith("logging.") and "[" in base for base in bases
                ):
                    found.append(f"{path.relative_to(ROOT)}: class {item.name}({', '.join(bases)})")
    assert not found
