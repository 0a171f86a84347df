#!/usr/bin/env bash
# usage: stop-node.sh [-c CONF_DIR] [-D data_dir=FOLDER]
# Stops the node of a data folder cleanly, and waits until it is gone.
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/common.sh"
run_module cluster.server.node_control stop ${CONF_OPTIONS[@]+"${CONF_OPTIONS[@]}"} "$@"
