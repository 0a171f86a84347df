"""Who a node is, an id that outlives its addresses, and what its data folder must agree with."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from cluster.config.settings import ConfigError, Endpoint
from cluster.raft.types import NodeId

_FILE = "node_identity"
_UNIT_FILE = "time_unit"
_FORMAT = 1
_ID_BITS = 48


class Identity(NamedTuple):
    """A node's identity.

    Attributes:
        node_id: positive; derived from the seed address of the first start, then kept.
        incarnation: random; made with the data folder and lost with it.
    """

    node_id: NodeId
    incarnation: str


def node_id_of(endpoint: Endpoint) -> NodeId:
    """Return the id of a node that starts first at `endpoint`.

    Every seed can so compute the ids of all seeds, and found a cluster while some are away. 48
    bits of SHA-256: a collision among a thousand nodes has a chance of 2 in a billion.
    """
    digest = hashlib.sha256(str(endpoint).lower().encode()).digest()
    return NodeId(int.from_bytes(digest[: _ID_BITS // 8], "big") | 1)


def seed_node_ids(seeds: Iterable[Endpoint]) -> dict[Endpoint, NodeId]:
    """Return the ids of all seeds."""
    return {endpoint: node_id_of(endpoint) for endpoint in seeds}


def load_or_create_identity(data_dir: Path, own_endpoint: Endpoint) -> Identity:
    """Return the identity stored in the data folder, making it at the first start.

    Raises:
        ConfigError: the file is damaged, or the folder can't be written.
    """
    path = data_dir / "system" / _FILE
    if path.exists():
        try:
            content = json.loads(path.read_text())
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']} is not {_FORMAT}")
            return Identity(NodeId(int(content["node_id"])), str(content["incarnation"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path} is damaged ({error}); restore it: it says which node this is"
            ) from error
    identity = Identity(node_id_of(own_endpoint), secrets.token_hex(16))
    _store(data_dir, path, {"format": _FORMAT, **identity._asdict()})
    return identity


def stored_time_unit(data_dir: Path) -> str | None:
    """Return what the times in a data folder count ("ms", "us" or "ns"), if it was noted.

    Raises:
        ConfigError: the file is damaged.
    """
    path = data_dir / "system" / _UNIT_FILE
    if not path.exists():
        return None
    try:
        return str(json.loads(path.read_text())["timestamp_precision"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is damaged ({error}); restore it: it says what the times here count"
        ) from error


def check_time_unit(data_dir: Path, precision: str) -> None:
    """Note in the data folder what its times count; at later starts, compare.

    The same numbers mean other moments in another unit, and lie in other partitions. A folder from
    before this was noted is taken for what the settings say.

    Raises:
        ConfigError: the folder's times are of another unit, the file is damaged, or it can't be
            written.
    """
    stored = stored_time_unit(data_dir)
    if stored is None:
        content = {"format": _FORMAT, "timestamp_precision": precision}
        _store(data_dir, data_dir / "system" / _UNIT_FILE, content)
        return
    if stored != precision:
        raise ConfigError(
            f"timestamp_precision={precision}, but the times in {data_dir} are in {stored}; "
            f"set timestamp_precision={stored}"
        )


def _store(data_dir: Path, path: Path, content: Mapping[str, object]) -> None:
    """Write a small file that is there whole, or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        with temporary.open("w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        # the folders may be new as well: their own entries must outlive a power cut, too
        for folder in (path.parent, data_dir, data_dir.absolute().parent):
            _sync_folder(folder)
    except OSError as error:
        raise ConfigError(f"data_dir={data_dir} can't be written: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
