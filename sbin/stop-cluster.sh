#!/usr/bin/env bash
# usage: stop-cluster.sh DIR
# Stops the nodes that start-cluster.sh started below DIR.
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/common.sh"
run_module cluster.server.local_cluster stop "$@"
