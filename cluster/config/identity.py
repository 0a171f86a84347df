"""Who a node is: an id that outlives its addresses, and a mark of its data folder."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cluster.config.settings import ConfigError, Endpoint
from cluster.raft.types import NodeId

_FILE = "node_identity"
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        with temporary.open("w") as file:
            json.dump({"format": _FORMAT, **identity._asdict()}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        # the folders may be new as well: their own entries must outlive a power cut, too
        for folder in (path.parent, data_dir, data_dir.absolute().parent):
            _sync_folder(folder)
    except OSError as error:
        raise ConfigError(f"data_dir={data_dir} can't be written: {error.strerror}") from error
    return identity


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
