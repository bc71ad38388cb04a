#!/bin/sh
# Makes .venv and installs the project into it. Called by `make setup`; PYTHON and PIP_ARGS come from there.
set -eu
python=""
for candidate in "$PYTHON" python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "Niwaki needs Python 3.11, 3.12 or 3.13. On Debian or Ubuntu: sudo apt-get install python3 python3-venv" >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -q && apt-get install -qy "python$version-venv"
    else
        echo "The venv module is missing. Install it: sudo apt-get install python$version-venv" >&2
        exit 1
    fi
fi
if [ ! -x .venv/bin/python ]; then
    "$python" -m venv .venv
fi
if ! .venv/bin/python -c 'import torch' 2>/dev/null; then
    echo "Installing into .venv: about 0.5 GB to download with a CPU build of torch, about 3 GB with the CUDA build"
    echo "that pip takes by default on Linux. For the CPU build: make setup PIP_ARGS='--extra-index-url INDEX' with"
    echo "the index of CPU wheels that pytorch.org names."
fi
# shellcheck disable=SC2086 # PIP_ARGS is a list of options
.venv/bin/python -m pip install --quiet --disable-pip-version-check $PIP_ARGS -e '.[worker,dev]'
touch .venv/.installed
