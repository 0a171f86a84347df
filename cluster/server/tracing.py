"""What TRACING SELECT tells besides the rows: the stages of a query and when they were reached."""

from __future__ import annotations

import time

from cluster.rpc.gen.client.ttypes import TSTracingInfo

_STARTED = "Start to execute statement"
PARSED = "Parse SQL to physical plan"
PLANNED = "Create and cache dataset"
_COMPLETE = "Request complete"


class Tracing:
    """Stages of one query; made when its request arrives."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._activities = [_STARTED]
        self._elapsed_ms = [0]

    def reached(self, activity: str) -> None:
        """Note that a stage is over."""
        self._activities.append(activity)
        self._elapsed_ms.append(int(1000 * (time.monotonic() - self._began)))

    def info(self, series_count: int) -> TSTracingInfo:
        """Return the request's account; `series_count`: columns that were read.

        The counters of files and chunks that 0.13 adds have no counterpart here and are left out.
        """
        self.reached(_COMPLETE)
        return TSTracingInfo(
            activityList=self._activities,
            elapsedTimeList=self._elapsed_ms,
            seriesPathNum=series_count,
        )
