"""Functions, triggers and continuous queries by name; a part of the meta state.

Replicated: what changes something is deterministic and returns what to store:

    function/<name>  class name; names are kept in upper case, as 0.13 does
    trigger/<name>   JSON [event, path, class name, [[key, value], …], started]
    cq/<name>        JSON list, see ContinuousQuery; the time of the next run at its end
"""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass, replace

from cluster.errors import ClusterError, StatusCode

FUNCTION_PREFIX = b"function/"
TRIGGER_PREFIX = b"trigger/"
CQ_PREFIX = b"cq/"

Puts = dict[bytes, bytes | None]


@dataclass(frozen=True)
class Trigger:
    """A registered trigger. `event` is `before insert` or `after insert`."""

    name: str
    event: str
    path: str
    class_name: str
    attributes: tuple[tuple[str, str], ...]
    started: bool = True


@dataclass(frozen=True)
class ContinuousQuery:
    """A registered continuous query (sql.md 3.17). Times and lengths in units of the precision.

    Attributes:
        name: as typed.
        every: between two runs.
        span: length of what a run looks at, FOR.
        boundary: a time at which a window begins.
        query: the SELECT that a run makes, with `now()` for the time of the run.
        pattern: of its FROM.
        target: path of the results, with placeholders `${n}`.
        zone: time zone of the session that made it.
        next_run: when the next run is due; moved on once that was made.
    """

    name: str
    every: int
    span: int
    boundary: int
    query: str
    pattern: str
    target: str
    zone: str
    next_run: int


class Registry:
    """One thread changes, any thread reads: records are immutable and replaced in one step."""

    def __init__(self) -> None:
        self._functions: dict[str, str] = {}
        self._triggers: dict[str, Trigger] = {}
        self._started: tuple[Trigger, ...] = ()
        self._queries: dict[str, ContinuousQuery] = {}

    def load(self, key: bytes, value: bytes) -> bool:
        """Take a stored record; False when the key is not of this kind.

        Raises:
            ValueError, TypeError: the record is damaged.
        """
        if key.startswith(FUNCTION_PREFIX):
            self._functions[key[len(FUNCTION_PREFIX) :].decode()] = value.decode()
            return True
        if key.startswith(TRIGGER_PREFIX):
            name = key[len(TRIGGER_PREFIX) :].decode()
            event, path, class_name, attributes, started = json.loads(value)
            pairs = tuple((key, item) for key, item in attributes)
            self._triggers[name] = Trigger(name, event, path, class_name, pairs, started)
            self._note_started()
            return True
        if key.startswith(CQ_PREFIX):
            query = ContinuousQuery(*json.loads(value))
            self._queries[query.name] = query
            return True
        return False

    # ---- reading ----

    def functions(self) -> list[tuple[str, str]]:
        """Return (name, class name) of the registered functions, sorted."""
        return sorted(self._functions.items())

    def function(self, name: str) -> str | None:
        """Return the class name of a function, whatever the case of its name, or None."""
        return self._functions.get(name.upper())

    def triggers(self) -> list[Trigger]:
        """Return the triggers, by name."""
        return sorted(self._triggers.values(), key=lambda trigger: trigger.name)

    def started_triggers(self) -> tuple[Trigger, ...]:
        """Return those that are started, by name; the same object until one of them changes."""
        return self._started

    def trigger(self, name: str) -> Trigger | None:
        """Return a trigger, or None."""
        return self._triggers.get(name)

    def continuous_queries(self) -> list[ContinuousQuery]:
        """Return the continuous queries, by name."""
        return sorted(self._queries.values(), key=lambda query: query.name)

    # ---- changing ----

    def create_function(self, name: str, class_name: str) -> Puts:
        """Register a function."""
        name = name.upper()
        known = self._functions.get(name)
        if known is not None:
            same = "and the class name" if known == class_name else "but a different class name"
            raise ClusterError(
                StatusCode.QUERY_PROCESS_ERROR,
                f"Failed to register UDF {name}({class_name}), because a UDF {name}({known}) with "
                f"the same function name {same} has already been registered.",
            )
        self._functions[name] = class_name
        return {FUNCTION_PREFIX + name.encode(): class_name.encode()}

    def drop_function(self, name: str) -> Puts:
        """Forget a function."""
        name = name.upper()
        if name not in self._functions:
            raise ClusterError(StatusCode.QUERY_PROCESS_ERROR, f"UDF {name} does not exist.")
        del self._functions[name]
        return {FUNCTION_PREFIX + name.encode(): None}

    def create_trigger(self, trigger: Trigger) -> Puts:
        """Register a trigger, started."""
        known = self._triggers.get(trigger.name)
        if known is not None:
            raise ClusterError(
                StatusCode.STORAGE_ENGINE_ERROR,
                f"Failed to register trigger {trigger.name}({trigger.class_name}), because a "
                f"trigger {known.name}({known.class_name}) has already been registered with the "
                "same trigger name.",
            )
        return self._put_trigger(trigger)

    def drop_trigger(self, name: str) -> Puts:
        """Forget a trigger."""
        self._known_trigger(name)
        del self._triggers[name]
        self._note_started()
        return {TRIGGER_PREFIX + name.encode(): None}

    def switch_trigger(self, name: str, *, started: bool) -> Puts:
        """Start or stop a trigger; what it is already is a success."""
        return self._put_trigger(replace(self._known_trigger(name), started=started))

    def drop_triggers_within(self, storage_group: str) -> Puts:
        """Forget the triggers in a storage group that is dropped."""
        gone = [
            trigger.name
            for trigger in self._triggers.values()
            if trigger.path == storage_group or trigger.path.startswith(f"{storage_group}.")
        ]
        for name in gone:
            del self._triggers[name]
        self._note_started()
        return {TRIGGER_PREFIX + name.encode(): None for name in gone}

    def create_query(self, query: ContinuousQuery) -> Puts:
        """Register a continuous query."""
        if query.name in self._queries:
            raise ClusterError(
                StatusCode.CONTINUOUS_QUERY_ERROR,
                f"Continuous Query [{query.name}] already exists",
            )
        return self._put_query(query)

    def drop_query(self, name: str) -> Puts:
        """Forget a continuous query."""
        if name not in self._queries:
            raise ClusterError(
                StatusCode.CONTINUOUS_QUERY_ERROR, f"Continuous Query [{name}] does not exist"
            )
        del self._queries[name]
        return {CQ_PREFIX + name.encode(): None}

    def claim_run(self, name: str, due: int, next_run: int) -> Puts:
        """Note that the run that is due was made; refused when it was noted before.

        Comes after the run (`cluster.server.continuous_queries` says why): a window may be run
        twice, with the same effect, and none is left out.
        """
        query = self._queries.get(name)
        if query is None or query.next_run != due:
            raise ClusterError(
                StatusCode.CONTINUOUS_QUERY_ERROR,
                f"run {due} of continuous query [{name}] is not due any more",
            )
        return self._put_query(replace(query, next_run=next_run))

    # ---- inside ----

    def _known_trigger(self, name: str) -> Trigger:
        trigger = self._triggers.get(name)
        if trigger is None:
            raise ClusterError(StatusCode.STORAGE_ENGINE_ERROR, f"Trigger {name} does not exist.")
        return trigger

    def _put_trigger(self, trigger: Trigger) -> Puts:
        self._triggers[trigger.name] = trigger
        self._note_started()
        record = [
            trigger.event,
            trigger.path,
            trigger.class_name,
            trigger.attributes,
            trigger.started,
        ]
        return {TRIGGER_PREFIX + trigger.name.encode(): _dump(record)}

    def _note_started(self) -> None:
        self._started = tuple(trigger for trigger in self.triggers() if trigger.started)

    def _put_query(self, query: ContinuousQuery) -> Puts:
        self._queries[query.name] = query
        return {CQ_PREFIX + query.name.encode(): _dump(astuple(query))}


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
