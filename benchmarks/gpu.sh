#!/usr/bin/env bash
# Measures a GPU in one command of some minutes, on a machine that has Python with torch, transformers and
# sentence-transformers, and perhaps no network. Wheels of what else the worker imports are taken from the folder
# WHEELS, if it is set. Arguments go to `python -m benchmarks.gpu`: `--device cpu --quick` rehearses it.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
if [ -n "${WHEELS:-}" ]; then
    packages=$(mktemp -d)
    trap 'rm -rf "$packages"' EXIT
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$packages" "$WHEELS"/*.whl
    # Behind the machine's own: its torch must not get other company than it came with.
    export PYTHONPATH="$PWD:$packages"
else
    export PYTHONPATH="$PWD"
fi
export TOKENIZERS_PARALLELISM=true HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
"$python" -m benchmarks.gpu "$@"
