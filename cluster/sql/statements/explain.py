"""EXPLAIN of 1.x."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.sql.statements.select import Select


@dataclass(frozen=True)
class Explain:
    """EXPLAIN [ANALYZE [VERBOSE]].

    Attributes:
        select: what is explained; its INTO is not carried out.
        analyze: whether it is run, too.
        verbose: whether each request to the groups is told by itself.
    """

    select: Select
    analyze: bool = False
    verbose: bool = False
