"""The core imports nothing that could make it depend on time, chance, threads or I/O."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import cluster.raft

ALLOWED = {
    "__future__",
    "bisect",
    "collections",
    "collections.abc",
    "dataclasses",
    "enum",
    "heapq",
    "random",
    "typing",
}
MODULES = sorted(Path(cluster.raft.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_imports(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        else:
            continue
        for name in names:
            assert name in ALLOWED or name.startswith("cluster.raft"), name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_random_is_only_a_type_and_no_set_is_iterated(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.value.id != "random" or node.attr == "Random", ast.unparse(node)
        if isinstance(node, (ast.For, ast.comprehension)):
            assert not isinstance(node.iter, (ast.Set, ast.SetComp)), ast.unparse(node.iter)
