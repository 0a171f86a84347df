#!/usr/bin/env bash
# usage: nodetool.sh [-h HOST] [-p META_PORT] [--json] status|ring|digest|log|verify|repair …
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/common.sh"
run_module cluster.server.nodetool "$@"
