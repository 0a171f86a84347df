"""Statements that nobody would write: made from the grammar, and real ones broken.

    PYTHONPATH=test:. python test/harness/sql_fuzz.py --statements 100000 [--seed N] [--execute]

Each must parse, or be refused with a status and a reason for people, quickly. With `--execute` what
parses is also run, in one process (`harness.local_database`). A seed and the number of the
statement make a failure again.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cluster.errors import ClusterError, StatusCode
from cluster.rpc.status import Generation
from cluster.sql.context import ParseContext
from cluster.sql.parser import grammar_rules, parse
from cluster.sql.tokens import OPERATORS, PLAIN_TOKEN
from harness.local_database import LocalDatabase
from harness.sql_cases import read_cases

Choose = Callable[[int], int]
"""A number below the one given: from a random generator, or drawn by Hypothesis."""

CASES = Path(__file__).parents[1] / "cases" / "sql"

MAX_S = 20.0
"""CPU time of one statement; the longest that are not refused take two or three."""

CONTEXTS = [
    ParseContext(zone="+08:00", now=1_700_000_000_000),
    ParseContext(zone="Z", now=1, modern=True),
    ParseContext(zone="Europe/Berlin", now=0, precision="ns", prefix_dialect=True),
]

_SAMPLES = {
    "ID": ["s1", "d1", "sg", "count", "sin", "x", "中文", "a:b", "_", "now", "time", "${1}"],
    "INT": ["0", "1", "7", "2147483648", "99999999999999999999999", "007"],
    "EXP": ["1e5", "2E-3", "9e999"],
    "STRING": ["'a'", '"b"', "''", "'\\''", "'k'", "'%'", "'['", "'\\u12'", "'1'", "'m:C'"],
    "BACKQUOTED": ["`a b`", "`select`", "`1`", "``", "`a.b`", "`\\``"],
    "PARTIAL": ["a*", "*b", "*c*"],
    "DATETIME": ["2022-01-01", "2022-02-31T25:61:00", "1970-01-01T00:00:00+08:00", "0-0-0"],
    "DURATION": ["1s", "1mo", "0ms", "99999999999y", "1h30m", "5ns"],
    "NOW": ["now"],
    "DATATYPE_VALUE": ["INT32", "text", "BOOLEAN"],
    "ENCODING_VALUE": ["RLE", "PLAIN", "DIFF"],
    "COMPRESSOR_VALUE": ["SNAPPY", "LZ4"],
    "BOOLEAN_LITERAL": ["true", "FALSE"],
    "_AND": ["and", "&&", "&"],
    "_OR": ["or", "||", "|"],
    "NOT": ["not", "!"],
    "ROOT": ["root"],
}
_TEXTS = {name: text for text, name in OPERATORS.items()}
_JUNK = [
    "\0",
    "'",
    '"',
    "`",
    "\\",
    "(",
    ")",
    "*",
    "\n",
    "\t",
    ".",
    ";",
    "--",
    "\U0001f600",
    "é",
    ",",
]


class Grammar:
    """Derives texts of a rule at random, no deeper than it has to be."""

    def __init__(self, generation: str = "v0") -> None:
        self._rules: dict[str, list[list[tuple[bool, str]]]] = defaultdict(list)
        for origin, symbols in grammar_rules(generation):
            self._rules[origin].append(symbols)
        self._depths = self._measured()

    def _measured(self) -> dict[str, int]:
        depths: dict[str, int] = {}
        while True:
            before = dict(depths)
            for origin, choices in self._rules.items():
                known = [d for d in (self._depth(c, depths) for c in choices) if d is not None]
                if known:
                    depths[origin] = 1 + min(known)
            if depths == before:
                return depths

    @staticmethod
    def _depth(symbols: Sequence[tuple[bool, str]], depths: dict[str, int]) -> int | None:
        inner = [0 if terminal else depths.get(name) for terminal, name in symbols]
        return None if None in inner else max((d for d in inner if d is not None), default=0)

    def text(self, choose: Choose, origin: str = "start", budget: int = 14) -> str:
        """Return a text that the grammar allows, mostly: samples of terminals may not fit."""
        return " ".join(self._words(choose, origin, budget)).replace(" . ", ".")

    def _words(self, choose: Choose, origin: str, budget: int) -> Iterator[str]:
        choices = self._rules[origin]
        fitting = [c for c in choices if (self._depth(c, self._depths) or 0) < budget]
        if not fitting:
            fitting = [min(choices, key=lambda c: self._depth(c, self._depths) or 0)]
        for terminal, name in fitting[choose(len(fitting))]:
            if terminal:
                samples = _SAMPLES.get(name)
                yield samples[choose(len(samples))] if samples else _word(name)
            else:
                yield from self._words(choose, name, budget - 1)


def _word(terminal: str) -> str:
    return _TEXTS.get(terminal, terminal.lstrip("_"))


def real_statements() -> list[str]:
    """Return the statements of all case files, short ones."""
    return [
        case.sql
        for path in sorted(CASES.glob("*.txt"))
        for case in read_cases(path.read_text(encoding="utf-8"))[0]
        if len(case.sql) < 400
    ]


def mutated(sql: str, others: Sequence[str], choose: Choose) -> str:
    """Return a statement with one to four things wrong."""
    for _ in range(1 + choose(4)):
        sql = _mutated_once(sql, others, choose)
    return sql


def _mutated_once(sql: str, others: Sequence[str], choose: Choose) -> str:
    tokens = [match[0] for match in PLAIN_TOKEN.finditer(sql)] or [sql]
    at = choose(len(tokens))
    match choose(9):
        case 0:
            return "".join(tokens[:at] + tokens[at + 1 :])
        case 1:
            return "".join(tokens[: at + 1] + tokens[at:])
        case 2:
            other = choose(len(tokens))
            tokens[at], tokens[other] = tokens[other], tokens[at]
            return "".join(tokens)
        case 3:
            donor = [m[0] for m in PLAIN_TOKEN.finditer(others[choose(len(others))])] or [""]
            return "".join([*tokens[:at], donor[choose(len(donor))], *tokens[at + 1 :]])
        case 4:
            return "".join(tokens[:at])
        case 5:
            place = choose(len(sql) + 1)
            return sql[:place] + _JUNK[choose(len(_JUNK))] + sql[place:]
        case 6:
            place = choose(len(sql) + 1)
            return sql[:place] + sql[place + 1 + choose(3) :]
        case 7:
            times = (2, 50, 300)[choose(3)]
            return "".join([*tokens[:at], "(" * times, tokens[at], ")" * times, *tokens[at + 1 :]])
        case _:
            other_text = others[choose(len(others))]
            return sql[: choose(len(sql) + 1)] + other_text[choose(len(other_text) + 1) :]


_INTERNAL = re.compile(
    r"Traceback|object at 0x|NoneType|[A-Z][a-z]+Error\b|<class|lambda|File \"|Tree\(|Token\("
)


def check(sql: str, run: Callable[[str], Any]) -> str:
    """Run a statement and return how it ended.

    Raises:
        AssertionError: something else than an answer or a refusal for people, or too slowly.
    """
    started = time.process_time()
    refusal: ClusterError | None = None
    try:
        run(sql)
    except ClusterError as error:
        refusal = error
    taken = time.process_time() - started
    shown = repr(sql[:2000])
    assert taken < MAX_S, f"{shown} took {taken:.1f} s"
    if refusal is None:
        return "fine"
    message = refusal.message
    assert refusal.status != StatusCode.INTERNAL_SERVER_ERROR, f"{shown}: {message}"
    assert message, f"{shown} is refused without a reason"
    inner = _INTERNAL.search(message.replace(sql, ""))
    assert inner is None or inner[0] in sql, f"{shown} tells of its inside: {message}"
    return f"refused {int(refusal.status)}"


def parse_all(sql: str) -> None:
    """Parse in every dialect; the refusal of the last one counts."""
    refusal: ClusterError | None = None
    for context in CONTEXTS:
        try:
            parse(sql, context)
        except ClusterError as error:
            refusal = error
    if refusal is not None:
        raise refusal


PREPARED = [
    "CREATE TIMESERIES root.sg.d1.s1 INT32",
    "CREATE TIMESERIES root.sg.d1.x DOUBLE",
    "CREATE TIMESERIES root.sg.d1.`a b` TEXT",
    "CREATE TIMESERIES root.sg.s1 BOOLEAN",
    "CREATE ALIGNED TIMESERIES root.d1(s1 INT64, x FLOAT)",
    "INSERT INTO root.sg.d1(time, s1, x, `a b`) VALUES (1, 1, 1.5, 'a'), (2, 2, null, 'b')",
    "INSERT INTO root.d1(time, s1, x) ALIGNED VALUES (1, 1, 1.5), (7, null, 2.5)",
]


def _prepared_for_both() -> list[LocalDatabase]:
    return [prepared(), prepared(Generation.V1)]


def prepared(generation: Generation = Generation.V0_13) -> LocalDatabase:
    """Return a database in which some of the paths that are made exist."""
    database = LocalDatabase(generation=generation)
    for sql in PREPARED:
        database.execute(sql)
    return database


DANGEROUS = re.compile(r"SYSTEM|ALTER USER|DROP USER|GRANT|REVOKE", re.IGNORECASE)
"""What would keep the statements that follow from being run."""


def main(arguments: Sequence[str]) -> None:
    """Run the long form."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--statements", type=int, default=10_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--execute", action="store_true")
    asked = options.parse_args(arguments)
    grammars, real = [Grammar("v0"), Grammar("v1")], real_statements()
    outcomes: Counter[str] = Counter()
    failures = 0
    started = time.monotonic()
    databases = _prepared_for_both()
    for number in range(asked.statements):
        source = random.Random(f"{asked.seed}/{number}")
        if number % 2:
            sql = mutated(real[source.randrange(len(real))], real, source.randrange)
        else:
            sql = grammars[number // 2 % 2].text(source.randrange)
        try:
            outcomes[check(sql, parse_all)] += 1
            if asked.execute and not DANGEROUS.search(sql):
                database = databases[number // 2 % 2]
                outcomes[f"run: {check(sql, database.execute)}"] += 1
        except Exception as error:  # noqa: BLE001 - whatever leaves is a finding
            failures += 1
            sys.stdout.write(f"{number}: {sql!r}\n    {type(error).__name__}: {error}\n")
        if asked.execute and number % 1000 == 999:
            for database in databases:
                database.close()
            databases = _prepared_for_both()
    for database in databases:
        database.close()
    taken = time.monotonic() - started
    sys.stdout.write(f"{asked.statements} statements in {taken:.0f} s, {failures} failures\n")
    for outcome, count in outcomes.most_common():
        sys.stdout.write(f"{count:8} {outcome}\n")
    raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
