"""Why the log refuses: a directory in use, bytes that can't be trusted, a range that is gone."""

from __future__ import annotations

from pathlib import Path

from cluster.errors import ClusterError, StatusCode


class LogCorrupt(ClusterError):
    """Stored bytes are not what was written, where a power cut can't be the reason.

    Attributes:
        path: the file, or the directory when a file is missing.
        offset: where in the file the first bad byte's record starts.
    """

    def __init__(self, path: Path, offset: int, reason: str) -> None:
        super().__init__(
            StatusCode.INTERNAL_SERVER_ERROR,
            f"Raft log corrupt: {path} at offset {offset}: {reason}. Nothing was changed. "
            "If the other replicas are healthy, move this node's whole data folder aside and let "
            "the node rejoin empty; otherwise restore the folder from a backup. Don't delete or "
            "edit single log files: acknowledged writes would be lost",
        )
        self.path = path
        self.offset = offset


class LogLocked(ClusterError):
    """Another process, or another `NodeLog` of this one, has the directory open."""

    def __init__(self, directory: Path, owner: str) -> None:
        super().__init__(
            StatusCode.INTERNAL_SERVER_ERROR,
            f"Raft log directory {directory} is in use by {owner or 'another process'}: "
            "is the node running already? Stop it first, or give this node its own data folder",
        )
        self.owner = owner


class LogFailed(ClusterError):
    """The log takes no more writes: an earlier write failed, or it is closed.

    Whoever gets this from `submit` knows that nothing of that submission was written.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(StatusCode.INTERNAL_SERVER_ERROR, f"Raft log takes no writes: {reason}")


class LogTruncated(ClusterError, KeyError):
    """The range asked for is not in the log: compacted, truncated, or not yet appended."""

    def __init__(self, group_id: int, lo: int, hi: int, first: int, last: int) -> None:
        super().__init__(
            StatusCode.INTERNAL_SERVER_ERROR,
            f"group {group_id}: entries [{lo}, {hi}) are not in the log, which has "
            f"[{first}, {last + 1})",
        )

    def __str__(self) -> str:
        # KeyError would show the repr
        return self.message
