#!/usr/bin/env bash
# usage: start-node.sh [-c CONF_DIR] [-D key=value]... [-d]
# Runs one node: in the foreground, or with -d in the background (returns once it is ready).
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/common.sh"
run_held_module cluster.node_command ${CONF_OPTIONS[@]+"${CONF_OPTIONS[@]}"} "$@"
