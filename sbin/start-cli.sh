#!/usr/bin/env bash
# usage: start-cli.sh [-h HOST] [-p PORT] [-u USER] [-pw PASSWORD] [-e SQL]
#        start-cli.sh [...] import-csv FILE --device root.x.y [...]
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/common.sh"
run_held_module iotdb_client.cli.main "$@"
