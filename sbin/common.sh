# Shared by the scripts of this folder: find a Python, its environment, and run a module. Sourced.
# IOTDB_PYTHON    the Python to start from (default: the first of 3.10 or later on the PATH)
# IOTDB_PY_VENV   the virtual environment to use or make (default: .venv in the checkout)

set -eu
# once what is running has ended, which the terminal has told as well
trap 'exit 130' INT

# Holds Ctrl-C back from a Python that lets it in as soon as it can end in order: one that is
# interrupted while it starts prints a traceback. Empty where this system's `env` can't do that.
HOLD=()
if env --block-signal=INT true >/dev/null 2>&1; then
    HOLD=(env --block-signal=INT)
fi

IOTDB_HOME=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

# Print the path of a Python >= 3.10.
find_python() {
    local candidate candidates=(python3 python3.14 python3.13 python3.12 python3.11 python3.10 python)
    if [ -n "${IOTDB_PYTHON:-}" ]; then
        candidates=("$IOTDB_PYTHON")
    fi
    for candidate in "${candidates[@]}"; do
        if ${HOLD[@]+"${HOLD[@]}"} "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    echo "error: Python 3.10 or later is needed; ${IOTDB_PYTHON:-python3} is $(
        "${IOTDB_PYTHON:-python3}" --version 2>&1 || echo 'not there'
    ). Install one, or name it with IOTDB_PYTHON" >&2
    return 1
}

# Set PYTHON to one that has the packages (of the extras named as arguments, too).
use_environment() {
    local base
    base=$(find_python)
    PYTHON=$(${HOLD[@]+"${HOLD[@]}"} "$base" "$IOTDB_HOME/sbin/environment.py" "$@" </dev/null)
    export PYTHONPATH="$IOTDB_HOME${PYTHONPATH:+:$PYTHONPATH}"
    # a folder called cluster where the user stands must not be taken for ours
    export PYTHONSAFEPATH=1
    # Where nothing may keep byte code and parse tables (a habit of containers), each start of a node
    # makes them anew, which costs it five times what all the rest does. They are kept in the
    # __pycache__ folders of the checkout.
    unset PYTHONDONTWRITEBYTECODE
}

# Replace this shell by a module of the project.
run_module() {
    use_environment
    exec "$PYTHON" -m "$@"
}

# The same for one that lets Ctrl-C in.
run_held_module() {
    use_environment
    exec ${HOLD[@]+"${HOLD[@]}"} "$PYTHON" -m "$@"
}

# The options that name the configuration of this checkout; a later -c wins.
CONF_OPTIONS=()
if [ -f "$IOTDB_HOME/conf/iotdb-cluster.properties" ]; then
    CONF_OPTIONS=(-c "$IOTDB_HOME/conf")
fi
