"""Who a node is, an id that outlives its addresses, and what its data folder must agree with."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from cluster.config.settings import ClusterWide, ConfigError, Endpoint
from cluster.raft.types import NodeId

_FILE = "node_identity"
_LAYOUT_FILE = "layout"
_LAYOUT_KEYS = ("timestamp_precision", "enable_partition", "partition_interval")
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


def stored_layout(data_dir: Path) -> dict[str, str]:
    """Return the settings that say how the points of a data folder are laid out: key → text.

    Those of them that were noted; none of a folder that is new.

    Raises:
        ConfigError: the file is damaged.
    """
    path = data_dir / "system" / _LAYOUT_FILE
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
        found = {key: str(content[key]) for key in _LAYOUT_KEYS if key in content}
        if "timestamp_precision" not in found:
            raise ValueError("no timestamp_precision")
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is damaged ({error}); restore it: it says how the times here are stored"
        ) from error
    return found


def check_layout(data_dir: Path, cluster: ClusterWide) -> None:
    """Compare the settings with how the points of a data folder are laid out.

    The same numbers mean other moments in another unit; and points are looked for in the slots
    that the partitions of the settings have, so with others they would be there and not be found.
    What was not noted (a folder is new, or older than the note) is taken for what the settings say.

    Raises:
        ConfigError: they differ, or the file is damaged.
    """
    stored, wanted = stored_layout(data_dir), _layout_of(cluster)
    odd = [key for key, value in stored.items() if wanted.get(key, value) != value]
    if odd:
        raise ConfigError(
            f"{', '.join(f'{key}={wanted[key]}' for key in odd)}, but the points in {data_dir} "
            f"are stored with {', '.join(f'{key}={value}' for key, value in stored.items())}: set "
            "that, or take another data_dir"
        )


def note_layout(data_dir: Path, cluster: ClusterWide) -> None:
    """Note in the data folder how its points are laid out, for `check_layout` at later starts.

    Not before the other nodes agree with the settings: a folder without points could else be used
    with the wrong ones only.

    Raises:
        ConfigError: it can't be written.
    """
    wanted = _layout_of(cluster)
    if stored_layout(data_dir) != wanted:
        _store(data_dir, data_dir / "system" / _LAYOUT_FILE, {"format": _FORMAT, **wanted})


def _layout_of(cluster: ClusterWide) -> dict[str, str]:
    """Return what settings say of the layout; how long partitions are only if there are any."""
    found = {
        "timestamp_precision": cluster.timestamp_precision,
        "enable_partition": str(cluster.enable_partition).lower(),
    }
    if cluster.enable_partition:
        found["partition_interval"] = str(cluster.partition_interval)
    return found


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
