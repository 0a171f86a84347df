"""Writes conf/iotdb-cluster.properties and docs/configuration.md from the declarations."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from cluster.config.settings import PROPERTIES_FILE, ClusterWide, declared_keys, shown_default

_CLUSTER_KEYS = frozenset(ClusterWide.__dataclass_fields__)


def properties_text() -> str:
    """Return the properties file: every key, commented, with its default."""
    lines = [
        "# Settings of a node. A commented key shows its default; uncomment it to change it.",
        "# `-D key=value` on the command line overrides what stands here.",
    ]
    for key, declared in declared_keys().items():
        scope = "the same on all nodes" if key in _CLUSTER_KEYS else "per node"
        lines += [
            "",
            *textwrap.wrap(
                declared.metadata["meaning"],
                98,
                initial_indent="# ",
                subsequent_indent="# ",
                break_on_hyphens=False,
            ),
        ]
        lines += [
            f"# Unit: {declared.metadata['unit']}; {scope}.",
            f"#{key}={shown_default(declared)}",
        ]
    return "\n".join(lines) + "\n"


def markdown_text() -> str:
    """Return the documentation page: a table of all keys."""
    lines = [
        "# Configuration",
        "",
        "Every key of `conf/iotdb-cluster.properties`; `-D key=value` overrides one. Written from",
        "`cluster/config/settings.py` by `python -m cluster.config.render`. Keys of the Java",
        "original that have no meaning here are accepted and ignored.",
        "",
        "| key | default | unit | scope | meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    for key, declared in declared_keys().items():
        scope = "all nodes alike" if key in _CLUSTER_KEYS else "per node"
        default = shown_default(declared) or "unset"
        lines.append(
            f"| `{key}` | `{default}` | {declared.metadata['unit']} | {scope} "
            f"| {declared.metadata['meaning']} |"
        )
    return "\n".join(lines) + "\n"


def main(root: Path) -> None:
    """Write both files below `root`."""
    (root / "conf" / PROPERTIES_FILE).write_text(properties_text(), encoding="utf-8")
    (root / "docs" / "configuration.md").write_text(markdown_text(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
