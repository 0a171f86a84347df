#!/usr/bin/env bash
# usage: start-cluster.sh N DIR [--base-port PORT] [-D key=value]...
# Starts N nodes on this machine with everything below DIR, and returns once they are ready.
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/common.sh"
run_module cluster.server.local_cluster start "$@"
