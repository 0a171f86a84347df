"""Runs the continuous queries: on the leader of the meta group, each window once.

Problem: the leader may change at any moment, also between the run of a window and the note of it.
A note before the run loses the window when the node dies in between; a note after it runs the
window again. The second is harmless, since a run writes the same series at the same times: what
readers see is one result. So a run is noted after it (`ContinuousQueryPlan` CLAIM), the note is
accepted only while that very run is due, and whoever leads next begins with the first run that has
none. Windows that passed while there was no leader are made up for, one after another.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence

from cluster.coordinator.coordinator import Coordinator
from cluster.errors import ClusterError, Status, StatusCode
from cluster.plan.plans import ContinuousQueryPlan, RegistryAction
from cluster.query.context import QueryContext
from cluster.query.executor import execute_query
from cluster.query.result import ResultSet
from cluster.rpc.deadline import Deadline
from cluster.schema.paths import is_wildcard, join_path, split_path
from cluster.schema.registry import ContinuousQuery
from cluster.server.select_into import write_result
from cluster.sql.continuous import PLACEHOLDER
from cluster.sql.parser import ParseContext, parse
from cluster.sql.timestamps import parse_zone
from cluster.threads import ThreadRegistry
from iotdb_engine.errors import Closed, EngineError

logger = logging.getLogger(__name__)

_PAUSE_S = 0.5
_RUN_S = 60.0
_PASSING = frozenset(
    {
        StatusCode.NO_LEADER,
        StatusCode.TIME_OUT,
        StatusCode.NO_CONNECTION,
        StatusCode.PARTITION_NOT_READY,
        StatusCode.CONSISTENCY_FAILURE,
        StatusCode.WRITE_PROCESS_REJECT,
        StatusCode.READ_ONLY_SYSTEM,
    }
)
"""Failures after which the same window is tried again; after others it is given up, with a log."""


class ContinuousQueries:
    """One per node; its thread sleeps while another node leads the meta group.

    Args:
        coordinator: reads, writes, and holds what is registered.
        version: for the query context.
        precision: of timestamps.
        leads: whether this node leads the meta group.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        *,
        version: str,
        precision: str,
        leads: Callable[[], bool],
    ) -> None:
        self._coordinator = coordinator
        self._version = version
        self._precision = precision
        self._leads = leads
        self._stopping = threading.Event()

    def start(self, threads: ThreadRegistry) -> None:
        """Begin to look for runs that are due."""
        threads.spawn("continuous-queries", self._loop)

    def stop(self) -> None:
        """Begin no further run."""
        self._stopping.set()

    def _loop(self) -> None:
        while not self._stopping.wait(_PAUSE_S):
            if self._leads() and not self._coordinator.meta_state.read_only:
                self.run_due(self._coordinator.now())

    def run_due(self, now: int) -> int:
        """Run each query whose time has come, once; return how many runs were noted."""
        noted = 0
        for query in self._coordinator.meta_state.registry.continuous_queries():
            if query.next_run <= now and not self._stopping.is_set():
                noted += self._run_and_note(query)
        return noted

    def _run_and_note(self, query: ContinuousQuery) -> bool:
        deadline = Deadline.after(_RUN_S)
        try:
            status = self._run(query, deadline)
            if not status.ok:
                raise ClusterError(status.code, status.message)
        except (ClusterError, EngineError) as error:
            logger.warning("continuous query %s at %d: %s", query.name, query.next_run, error)
            if isinstance(error, Closed) or getattr(error, "status", None) in _PASSING:
                return False
        except Exception:
            # a fault of the code: the window is given up, and the other queries go on
            logger.exception("continuous query %s at %d", query.name, query.next_run)
        note = ContinuousQueryPlan(
            RegistryAction.CLAIM, query.name, query.next_run, query.next_run + query.every
        )
        try:
            outcome = self._coordinator.execute_meta(note, deadline)
        except ClusterError as error:
            logger.warning("continuous query %s at %d: %s", query.name, query.next_run, error)
            return False
        return bool(outcome.ok)

    def _run(self, query: ContinuousQuery, deadline: Deadline) -> Status:
        """Compute the windows that end at the run's time, and write them."""
        context = QueryContext(
            deadline=deadline,
            version=self._version,
            zone=parse_zone(query.zone),
            precision=self._precision,
            max_series=1 << 31,
        )
        result = _begun(query, self._coordinator, context, deadline)
        try:
            targets = _targets(query, result.columns)
            _check_different(targets)
        except ClusterError:
            result.close()
            raise
        return write_result(
            result,
            targets,
            lambda items: self._coordinator.inserter.insert(items, deadline),
            aligned=False,
        )


def _begun(
    query: ContinuousQuery, coordinator: Coordinator, context: QueryContext, deadline: Deadline
) -> ResultSet:
    """Return the windows that end at the next run, which are computed as they are taken."""
    statement = parse(
        query.query,
        ParseContext(zone=query.zone, now=query.next_run, precision=context.precision),
    )
    return execute_query(statement, coordinator.backend(deadline), context)


def check_targets(
    query: ContinuousQuery, coordinator: Coordinator, context: QueryContext, deadline: Deadline
) -> None:
    """Refuse a new query that would write several of the series there are to one target.

    What else may keep it from running is told when it runs: the series may be other ones then.

    Raises:
        ClusterError: CONTINUOUS_QUERY_ERROR.
    """
    try:
        result = _begun(query, coordinator, context, deadline)
        result.close()
        targets = _targets(query, result.columns)
    except ClusterError:
        return
    _check_different(targets)


def _targets(query: ContinuousQuery, columns: Sequence[str]) -> list[str]:
    return [target_of(query, column) for column in columns]


def _check_different(targets: Sequence[str]) -> None:
    counts = Counter(targets)
    twice = next((target for target in targets if counts[target] > 1), None)
    if twice is not None:
        raise ClusterError(
            StatusCode.CONTINUOUS_QUERY_ERROR,
            f"target path {twice} is duplicated: several sources lead to it",
        )


def target_of(query: ContinuousQuery, column: str) -> str:
    """Return the series that a result column is written to.

    Args:
        query: with the target's placeholders.
        column: `function(path)`; nodes at levels that are not grouped by are `*` in it, and stand
            for those of the FROM clause.

    Raises:
        ClusterError: CONTINUOUS_QUERY_ERROR, a placeholder is for a node that there is not.
    """
    nodes = list(split_path(column[column.index("(") + 1 : -1]))
    for number, node in enumerate(split_path(query.pattern)):
        if number < len(nodes) and nodes[number] == "*" and not is_wildcard(node):
            nodes[number] = node

    def node_of(name: str) -> str:
        number = int(name)
        if number >= len(nodes) or nodes[number] == "*":
            raise ClusterError(
                StatusCode.CONTINUOUS_QUERY_ERROR,
                f"the target of continuous query {query.name} has ${{{number}}}, and {column} has "
                "no such node",
            )
        return nodes[number]

    return join_path(
        [
            PLACEHOLDER.sub(lambda match: node_of(match[1]), node)
            for node in split_path(query.target)
        ]
    )
