"""Which cases show which part of the dialect: the table in `test/cases/sql/README.md`.

    PYTHONPATH=test:. python test/harness/sql_sections.py --rewrite

The dialect's reference numbers its statements (section 2) and works examples for its rules
(sections 1 and 3 to 6). A pattern of each is looked up in the texts of the cases, blanks made one
and letters upper; the table tells how many there are and in which files, so that a test can see
that none is without.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from harness.sql_cases import read_cases

FOLDER = Path(__file__).parents[1] / "cases" / "sql"
TABLE = FOLDER / "README.md"

_TEMPLATE = r"(SCHEMA |DEVICE )?TEMPLATE"
_CQ = r"(CONTINUOUS QUERY|CQ)"


class Part(NamedTuple):
    """A statement or rule: its number or section, what it is, and how its cases are found."""

    place: str
    title: str
    pattern: str


STATEMENTS = [
    Part("1", "SET STORAGE GROUP", "^SET STORAGE GROUP"),
    Part("2", "CREATE STORAGE GROUP", "^CREATE (STORAGE GROUP|DATABASE)"),
    Part("3", "CREATE TIMESERIES", "^CREATE TIMESERIES ROOT"),
    Part("3b", "CREATE ALIGNED TIMESERIES", "^CREATE ALIGNED TIMESERIES"),
    Part("4", "CREATE SCHEMA TEMPLATE", f"^CREATE {_TEMPLATE}"),
    Part("5", "CREATE TIMESERIES OF SCHEMA TEMPLATE", f"^CREATE TIMESERIES (OF|USING) {_TEMPLATE}"),
    Part("6", "DEACTIVATE SCHEMA TEMPLATE", f"^DEACTIVATE {_TEMPLATE}"),
    Part("7", "CREATE FUNCTION", "^CREATE FUNCTION"),
    Part("8", "CREATE TRIGGER", "^CREATE .*TRIGGER"),
    Part("9", "CREATE CONTINUOUS QUERY", f"^CREATE {_CQ}"),
    Part("10", "CREATE SNAPSHOT", "^CREATE SNAPSHOT"),
    Part("11", "ALTER TIMESERIES", "^ALTER TIMESERIES"),
    Part("12", "DELETE STORAGE GROUP", "^(DELETE|DROP) (STORAGE GROUP|DATABASE)"),
    Part("13", "DELETE TIMESERIES", "^(DELETE|DROP) TIMESERIES ROOT"),
    Part("14", "DELETE PARTITION", "^(DELETE|DROP) PARTITION"),
    Part("15", "DROP FUNCTION", "^DROP FUNCTION"),
    Part("16", "DROP TRIGGER", "^DROP TRIGGER"),
    Part("17", "DROP CONTINUOUS QUERY", f"^DROP {_CQ}"),
    Part("18", "DROP SCHEMA TEMPLATE", f"^DROP {_TEMPLATE}"),
    Part("19", "SET TTL", "^SET TTL"),
    Part("20", "UNSET TTL", "^UNSET TTL"),
    Part("21", "START TRIGGER", "^START TRIGGER"),
    Part("22", "STOP TRIGGER", "^STOP TRIGGER"),
    Part("23", "SET SCHEMA TEMPLATE", f"^SET {_TEMPLATE}"),
    Part("24", "UNSET SCHEMA TEMPLATE", f"^UNSET {_TEMPLATE}"),
    Part("25", "SHOW STORAGE GROUP", "^SHOW (STORAGE GROUP|DATABASES)"),
    Part("26", "SHOW DEVICES", "^SHOW DEVICES"),
    Part("27", "SHOW TIMESERIES", "^SHOW (LATEST )?TIMESERIES"),
    Part("28", "SHOW CHILD PATHS", "^SHOW CHILD PATHS"),
    Part("29", "SHOW CHILD NODES", "^SHOW CHILD NODES"),
    Part("30", "SHOW FUNCTIONS", "^SHOW FUNCTIONS"),
    Part("31", "SHOW TRIGGERS", "^SHOW TRIGGERS"),
    Part("32", "SHOW CONTINUOUS QUERIES", "^SHOW (CONTINUOUS QUERIES|CQS)"),
    Part("33", "SHOW TTL ON", "^SHOW TTL ON"),
    Part("34", "SHOW ALL TTL", "^SHOW ALL TTL"),
    Part("35", "SHOW SCHEMA TEMPLATES", f"^SHOW {_TEMPLATE}S"),
    Part("36", "SHOW NODES IN SCHEMA TEMPLATE", f"^SHOW NODES IN {_TEMPLATE}"),
    Part("37", "SHOW PATHS USING SCHEMA TEMPLATE", f"^SHOW PATHS .*USING {_TEMPLATE}"),
    Part("38", "SHOW PATHS SET SCHEMA TEMPLATE", f"^SHOW PATHS SET {_TEMPLATE}"),
    Part("39", "COUNT STORAGE GROUP", "^COUNT (STORAGE GROUP|DATABASES)"),
    Part("40", "COUNT DEVICES", "^COUNT DEVICES"),
    Part("41", "COUNT TIMESERIES", "^COUNT TIMESERIES"),
    Part("42", "COUNT NODES", "^COUNT NODES"),
    Part("43", "SET ARCHIVING", "^SET ARCHIVING"),
    Part("44", "CANCEL ARCHIVING", "^CANCEL ARCHIVING"),
    Part("45", "PAUSE ARCHIVING", "^PAUSE ARCHIVING"),
    Part("46", "RESUME ARCHIVING", "^RESUME ARCHIVING"),
    Part("47", "SHOW ARCHIVING", "^SHOW (ALL )?ARCHIVING"),
    Part("48", "SELECT", "^(TRACING )?SELECT"),
    Part("49", "INSERT", "^INSERT INTO"),
    Part("50", "DELETE FROM", "^DELETE FROM"),
    Part("51", "CREATE USER", "^CREATE USER"),
    Part("52", "CREATE ROLE", "^CREATE ROLE"),
    Part("53", "ALTER USER SET PASSWORD", "^ALTER USER"),
    Part("54", "GRANT USER PRIVILEGES", "^GRANT (USER .* PRIVILEGES|.* TO USER)"),
    Part("55", "GRANT ROLE PRIVILEGES", "^GRANT (ROLE .* PRIVILEGES|.* TO ROLE)"),
    Part("56", "GRANT role TO user", "^GRANT (ROLE )?[A-Z0-9]+ TO [A-Z0-9]+$"),
    Part("57", "REVOKE USER PRIVILEGES", "^REVOKE (USER .* PRIVILEGES|.* FROM USER)"),
    Part("58", "REVOKE ROLE PRIVILEGES", "^REVOKE (ROLE .* PRIVILEGES|.* FROM ROLE)"),
    Part("59", "REVOKE role FROM user", "^REVOKE (ROLE )?[A-Z0-9]+ FROM [A-Z0-9]+$"),
    Part("60", "DROP USER", "^DROP USER"),
    Part("61", "DROP ROLE", "^DROP ROLE"),
    Part("62", "LIST USER", "^LIST USER$"),
    Part("63", "LIST ROLE", "^LIST ROLE$"),
    Part("64", "LIST PRIVILEGES USER", "^LIST PRIVILEGES (OF )?USER"),
    Part("65", "LIST PRIVILEGES ROLE", "^LIST PRIVILEGES (OF )?ROLE"),
    Part("66", "LIST USER PRIVILEGES", "^LIST USER PRIVILEGES"),
    Part("67", "LIST ROLE PRIVILEGES", "^LIST ROLE PRIVILEGES"),
    Part("68", "LIST ALL ROLE OF USER", "^LIST (ALL )?ROLE OF USER"),
    Part("69", "LIST ALL USER OF ROLE", "^LIST (ALL )?USER OF ROLE"),
    Part("70", "MERGE", "^MERGE"),
    Part("71", "FULL MERGE", "^FULL MERGE"),
    Part("72", "FLUSH", "^FLUSH"),
    Part("73", "CLEAR CACHE", "^CLEAR CACHE"),
    Part("74", "SETTLE", "^SETTLE"),
    Part("75", "SET SYSTEM TO", "^SET SYSTEM TO"),
    Part("76", "SHOW VERSION", "^SHOW VERSION"),
    Part("77", "SHOW FLUSH INFO", "^SHOW FLUSH (TASK )?INFO"),
    Part("78", "SHOW LOCK INFO", "^SHOW LOCK INFO"),
    Part("79", "SHOW QUERY RESOURCE", "^SHOW QUERY RESOURCE"),
    Part("80", "SHOW QUERY PROCESSLIST", "^SHOW QUERY PROCESSLIST"),
    Part("81", "KILL QUERY", "^KILL"),
    Part("82", "GRANT WATERMARK_EMBEDDING", "^GRANT WATERMARK_EMBEDDING"),
    Part("83", "REVOKE WATERMARK_EMBEDDING", "^REVOKE WATERMARK_EMBEDDING"),
    Part("84", "LOAD CONFIGURATION", "^LOAD CONFIGURATION"),
    Part("85", "LOAD TIMESERIES", "^LOAD TIMESERIES"),
    Part("86", "LOAD file", "^LOAD ['\"]"),
    Part("87", "REMOVE file", "^REMOVE ['\"]"),
    Part("88", "UNLOAD file", "^UNLOAD ['\"]"),
]

EXAMPLES = [
    Part("1.2", "keywords, operators and numbers as tokens", r"SELECT .* WHERE .*(&&|\|\||!\()"),
    Part("1.3", "quoted nodes, as made and as selected", r"""^SELECT .*`'SELECT'`.*`"A\+B"`"""),
    Part("1.3", "digits in the select list", "^SELECT `1`"),
    Part("1.3", "string literals and their escapes", r"VALUES \(\d+, '\\'STRING'\)"),
    Part("1.5", "SHOW STORAGE GROUP of a pattern", r"^SHOW STORAGE GROUP ROOT\.LN\.WF01\.\*\*"),
    Part("1.5", "SHOW DEVICES of a pattern", r"^SHOW DEVICES ROOT\.LN\.\*\*"),
    Part("1.5", "COUNT TIMESERIES by level", r"^COUNT TIMESERIES ROOT\.\*\* GROUP BY LEVEL"),
    Part("1.5", "COUNT NODES", r"^COUNT NODES ROOT\.LN\.WF01\.\* LEVEL"),
    Part("1.8", "paths that use a template", r"^SHOW PATHS USING SCHEMA TEMPLATE T1"),
    Part("1.8", "DEACTIVATE of a pattern", r"^DEACTIVATE SCHEMA TEMPLATE T1 FROM .*\*"),
    Part("1.9", "encodings that a type refuses", "BOOLEAN.* ENCODING ?= ?TS_2DIFF"),
    Part("1.10", "types inferred from literals", r"VALUES .*33554433"),
    Part("1.11", "date literals", r"\d{4}[-/.]\d\d?[-/.]\d\d?"),
    Part("1.11", "now() and arithmetic", r"NOW\(\)"),
    Part("2.7", "SHOW TIMESERIES with tags and attributes", r"^SHOW TIMESERIES ROOT\.TURBINE\.D1"),
    Part("2.7", "privileges as listed", "^LIST USER PRIVILEGES USER1"),
    Part("2.7", "continuous queries as shown", "^CREATE CQ CQ4 RESAMPLE EVERY 20S FOR 20S"),
    Part("3.3", "(a + *) / 2", r"^SELECT \(A \+ \*\) / 2 FROM ROOT\.SG1$"),
    Part("3.3", "((a + 1) * 2 - 1) % 2 + 1.5", r"^SELECT \(\(A \+ 1\) \* 2 - 1\) % 2 \+ 1\.5"),
    Part("3.3", "(a + b) * 3 over two prefixes", r"^SELECT \(A \+ B\) \* 3 FROM ROOT\.SG\d?,"),
    Part("3.3", "names of negations", r"-\(-1\) \+ A"),
    Part("3.3", "an alias for several columns", r"^SELECT S1 AS \w+ FROM ROOT\.SG\d?\.\*$"),
    Part("3.5", "LIKE", r" LIKE '6\\%%'"),
    Part("3.5", "REGEXP by device", r" REGEXP '\^1\.\*'.* ALIGN BY DEVICE"),
    Part("3.5", "a device without the filter's series", "WHERE S1 == 1101 ALIGN BY DEVICE"),
    Part("3.6", "arithmetic around aggregates", r"COUNT\(TEMPERATURE\) \+ AVG\(TEMPERATURE\)"),
    Part("3.7", "windows and steps", r"GROUP BY \(\[1, ?30\), ?3MS, ?5MS\)"),
    Part(
        "3.7", "left-open days", r"GROUP BY \(\(2017-11-01T00:00:00, 2017-11-07T23:00:00\], ?1D\)"
    ),
    Part("3.7", "clipped last window", r"GROUP BY \(\[100, ?500\), ?80MS\)"),
    Part("3.7", "months", r"GROUP BY \(\[\d+, ?\d+\), ?1MO, ?1MO\)"),
    Part("3.7", "days in months", r"GROUP BY \(\[\d+, ?\d+\), ?10D, ?1MO\)"),
    Part("3.7", "sticky day of month", r"GROUP BY \(\[2017-10-31T00:00:00, .*1MO, 2MO\)"),
    Part("3.8", "FILL at a point", r"WHERE TIME = 70 FILL\(LINEAR, 500MS, 500MS\)"),
    Part("3.8", "FILL of a constant", r"WHERE TIME = 70? FILL\(7\)"),
    Part("3.8", "FILL over windows", r"GROUP BY \(\[17, 55\), 5MS\) FILL\(PREVIOUSUNTILLAST\)"),
    Part("3.8", "FILL over windows, ranges", r"FILL\(LINEAR, 5M, 5M\)"),
    Part("3.9", "count by level", r"^SELECT COUNT\(STATUS\) FROM ROOT\.\*\* GROUP BY LEVEL ?= ?1$"),
    Part("3.9", "two levels", r"^SELECT COUNT\(STATUS\) FROM ROOT\.\*\* GROUP BY LEVEL ?= ?1, 3$"),
    Part("3.9", "sums and averages by level", r"^SELECT AVG\(TEMPERATURE\) FROM .* GROUP BY LEVEL"),
    Part("3.9", "alias for one result column", r"COUNT\(TEMPERATURE\) AS CT .* GROUP BY LEVEL"),
    Part("3.9", "levels with windows", r"GROUP BY \(.*\), LEVEL"),
    Part("3.10", "LIMIT and OFFSET", r"LIMIT 5 OFFSET 3"),
    Part("3.10", "SOFFSET past the end", "SLIMIT 1 SOFFSET 2"),
    Part("3.11", "WITHOUT NULL ANY", r"WITHOUT NULL ANY"),
    Part("3.11", "WITHOUT NULL ALL", r"WITHOUT NULL ALL"),
    Part("3.12", "aggregates by device", r"^SELECT COUNT\(S0\), ?COUNT\(S1\).* ALIGN BY DEVICE"),
    Part("3.12", "windows by device", r"GROUP BY \(\[2, ?50\), ?20MS\) ALIGN BY DEVICE"),
    Part("3.12", "paging by device", r"^SELECT S0, S0, S1 FROM .* ALIGN BY DEVICE"),
    Part("3.12", "SLIMIT by device", r"SLIMIT 2 SOFFSET 1 ALIGN BY DEVICE"),
    Part("3.12", "types that differ", r"^SELECT S0 FROM ROOT\.\*\.\* ALIGN BY DEVICE"),
    Part("3.12", "FILL by device", r"FILL\(INT32\[PREVIOUS, 5MS\]\) ALIGN BY DEVICE"),
    Part("3.13", "DISABLE ALIGN", "DISABLE ALIGN"),
    Part("3.14", "LAST", r"^SELECT LAST TEMPERATURE, STATUS, ID"),
    Part("3.14", "LAST of aliases", r"^SELECT LAST SPEED, S1, SPEED, S2"),
    Part("3.16", "INTO with placeholders", r"INTO \$\{2\}\.S2, \$\{2\}\.S3, \$\{2\}\.S4"),
    Part("3.16", "INTO of windows", r"^SELECT COUNT\(S1\).* INTO COUNT_S1.* GROUP BY"),
    Part("3.16", "INTO ALIGNED", r"INTO ALIGNED"),
    Part("3.17", "continuous queries", r"^CREATE (CQ|CONTINUOUS QUERY) CQ1"),
    Part("4.1", "NULL and NaN", r"^INSERT .*NULL"),
    Part("4.1", "text that overflows", r"^INSERT .*E\d{3}"),
    Part("4.2", "partial rows", r"VALUES ?\(100, ?'TEST', ?'TEST', ?'TEST'\)"),
    Part("4.2", "several rows, some fail", r"VALUES ?\(1, 1\.0\) \(2, 'HELLO'\), \(3, TRUE\)"),
    Part("4.2", "nulls in rows", r"VALUES ?\(1, NULL, 1\.0, 1\)"),
    Part("4.3", "ranges of DELETE", r"^DELETE FROM .* WHERE TIME .* AND TIME"),
    Part("4.4", "series made again", r"^DELETE TIMESERIES ROOT\..*S1$"),
    Part("4.5", "TTL set and unset", r"^UNSET TTL TO ROOT\."),
    Part("5", "grants and refusals", "^GRANT USER USER1 PRIVILEGES READ_TIMESERIES ON ROOT.A.B"),
    Part("6.1", "arithmetic without partners", r"^SELECT S7 \+ S8 FROM .* WHERE TIME < 5$"),
    Part("6.2", "CAST of texts", r"CAST\(\w+, ?'TYPE' ?= ?'BOOLEAN'\)"),
    Part("6.2", "CONST, PI, E", r"CONST\(S1, ?'VALUE' ?= ?'1024', ?'TYPE' ?= ?'INT64'\)"),
    Part("6.2", "runs", r"ZERO_COUNT\(S"),
    Part("6.3", "numbers as text", r"^SELECT LAST F, G, H, I"),
    Part("6.4", "EXTREME", r"EXTREME\("),
    Part("6.4", "sums of integers", r"SUM\("),
]


class Found(NamedTuple):
    """The cases of a part: how many, and in which files."""

    part: Part
    count: int
    files: list[str]


def found(parts: list[Part]) -> Iterator[Found]:
    """Look the parts up in all case files."""
    texts = [
        (path.stem, " ".join(case.sql.upper().split()))
        for path in sorted(FOLDER.glob("*.txt"))
        for case in read_cases(path.read_text(encoding="utf-8"))[0]
    ]
    for part in parts:
        pattern = re.compile(part.pattern)
        names = [name for name, sql in texts if pattern.search(sql)]
        yield Found(part, len(names), list(dict.fromkeys(names)))


def table() -> str:
    """Return the text of the README of the case files."""
    lines = [
        "# SQL cases",
        "",
        "Written by `PYTHONPATH=test:. python test/harness/sql_sections.py --rewrite`; a test",
        "compares. How the files are run: `test/README.md`. Numbers and sections are those of the",
        "dialect's reference.",
        "",
        "| statement | | cases | files |",
        "| --- | --- | --- | --- |",
        *map(_row, found(STATEMENTS)),
        "",
        "| section | rule with a worked example | cases | files |",
        "| --- | --- | --- | --- |",
        *map(_row, found(EXAMPLES)),
    ]
    return "\n".join(lines) + "\n"


def _row(item: Found) -> str:
    shown = ", ".join(item.files[:6]) + (", …" if len(item.files) > 6 else "")
    return f"| {item.part.place} | {item.part.title} | {item.count} | {shown} |"


def main(arguments: list[str]) -> None:
    """Write the table, or tell what has no case."""
    if arguments == ["--rewrite"]:
        TABLE.write_text(table(), encoding="utf-8")
    for item in found(STATEMENTS + EXAMPLES):
        if not item.count:
            sys.stdout.write(f"no case: {item.part.place} {item.part.title}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
