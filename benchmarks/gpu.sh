#!/usr/bin/env bash
# Everything that needs a GPU, in a few minutes: the device, the tests on it, the table of products.
#   bash benchmarks/gpu.sh [FOLDER]      figures go to FOLDER/gpu.json, logs beside them
# Python must have numba, scipy and pytest, as after `pip install -e ".[test]"`; with JAX it is timed too.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-${OUT:-.}}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} NBHVP_CACHE_DIR=${NBHVP_CACHE_DIR:-$out/kernels}
nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv
date
timeout 150 python3 -m pytest -q -m gpu tests/targets/cuda -p no:cacheprovider 2>&1 | tee "$out/gpu_tests.log" | tail -15
timeout 200 python3 -m benchmarks.gpu --json "$out/gpu.json" 2>&1 | tee "$out/gpu.log"
