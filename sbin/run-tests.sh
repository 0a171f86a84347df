#!/usr/bin/env bash
# usage: run-tests.sh [ARGUMENT OF PYTEST]...
# Lint, types, generated code and tests, in an environment of its own. Prints each part's time.
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/common.sh"

use_environment test
cd "$IOTDB_HOME"
# here the checkout is what is meant, and pytest adds it to the path by itself
unset PYTHONSAFEPATH
exec "$PYTHON" sbin/run_tests.py "$@"
