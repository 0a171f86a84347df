#!/usr/bin/env bash
# usage: run-tests.sh [ARGUMENT OF PYTEST]...
# Lint, types, generated code and tests, in an environment of its own. Prints each step's time.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

use_environment test
cd "$IOTDB_HOME"
# here the checkout is what is meant, and pytest adds it to the path by itself
unset PYTHONSAFEPATH

summary=()
failed=0

step() {
    local name=$1 began=$SECONDS outcome=ok
    shift
    printf '\n==> %s\n' "$name"
    "$@" || outcome="FAILED ($?)"
    [ "$outcome" = ok ] || failed=1
    summary+=("$(printf '%-14s %5ds  %s' "$name" "$((SECONDS - began))" "$outcome")")
}

generated_code() {
    local code=0
    thrift/generate.sh --check || code=$?
    if [ "$code" = 2 ]; then
        echo "not compared: the Thrift compiler of thrift/generate.sh is not installed here"
        return 0
    fi
    return "$code"
}

step 'ruff check' "$PYTHON" -m ruff check .
step 'ruff format' "$PYTHON" -m ruff format --check .
step mypy "$PYTHON" -m mypy
step 'thrift check' generated_code
step pytest "$PYTHON" -m pytest "$@"

printf '\n==> summary\n'
printf '%s\n' "${summary[@]}"
exit "$failed"
