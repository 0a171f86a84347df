from __future__ import annotations

import sys

import pytest

from cluster.sql import parse_tables, parser
from cluster.sql.context import ParseContext

SQL = "select a, b + 1 from root.** where time > 3 group by ([1,10),3ms)"


@pytest.fixture
def path(tmp_path, monkeypatch):
    made = tmp_path / "cache" / "grammar"
    monkeypatch.setattr(parse_tables, "_path", lambda _: made)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    return made


def statement(grammar, monkeypatch):
    monkeypatch.setattr(parser._GRAMMAR, "_grammar", grammar)
    monkeypatch.setattr(parser._GRAMMAR, "shapes", parser.ShapeCache())
    return parser.parse(SQL, ParseContext())


def test_tables_that_were_kept_give_the_same_statements(path, monkeypatch):
    made = parser._build_grammar("v0")
    assert path.exists()
    monkeypatch.setattr(parser, "Lark", None)  # it must not be built again
    read = parser._build_grammar("v0")
    assert read.parser is not made.parser
    assert read.keywords == made.keywords
    assert statement(read, monkeypatch) == statement(made, monkeypatch)


def test_tables_of_another_grammar_are_not_taken(path):
    parser._build_grammar("v0")
    assert parse_tables.load("start: A") is None


@pytest.mark.parametrize("damage", [b"", b"x" * 40, None])
def test_a_damaged_file_is_made_anew(path, damage, monkeypatch):
    parser._build_grammar("v0")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000] if damage is None else damage)
    read = parser._build_grammar("v0")
    assert path.read_bytes()[:32] == whole[:32]
    assert len(path.read_bytes()) > 1000
    assert statement(read, monkeypatch).windows is not None


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(parse_tables, "_path", lambda _: tmp_path / "file" / "grammar")
    assert parser._build_grammar("v0").parser is not None


def test_each_dialect_has_a_file_of_its_own():
    paths = {parse_tables._path(parser.grammar_text(generation)) for generation in ("v0", "v1")}
    assert len(paths) == 2


def test_a_parser_that_does_not_outlive_the_file_is_not_kept(path, monkeypatch):
    """As if a release of lark compared by identity what a file gives another identity."""
    monkeypatch.setattr(parse_tables, "Shift", None)
    made = parser._build_grammar("v0")
    assert not path.exists()
    assert statement(made, monkeypatch).windows is not None
