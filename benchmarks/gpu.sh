#!/usr/bin/env bash
# Everything that needs a GPU, in less than six minutes: the device, the tests on it, the table of products.
#   bash benchmarks/gpu.sh [FOLDER]      figures go to FOLDER/gpu.json, the tests' to FOLDER/gpu_tests.xml
# NBHVP_SIMULATED_GPU=1 runs all of it in the simulator, at small sizes.
# Python must have numba, scipy and pytest, as after `pip install -e ".[test]"`. With pytest-xdist the tests run on
# all processors; CuPy, torch and JAX are tested, and JAX timed, where they are installed.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-${OUT:-.}}
python=${PYTHON:-python3}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} NBHVP_CACHE_DIR=${NBHVP_CACHE_DIR:-$(mktemp -d)}
export XLA_PYTHON_CLIENT_PREALLOCATE=false  # JAX would take most of the memory
date
nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv
"$python" -c 'import importlib.metadata as m
for name in "numpy scipy numba llvmlite cupy-cuda12x cupy-cuda13x torch jax".split():
    try: print(name, m.version(name))
    except m.PackageNotFoundError: pass'
processes=$("$python" -c 'import xdist' 2>/dev/null && echo "-n $(($(nproc) < 8 ? $(nproc) : 8))")
timeout 170 "$python" -m pytest -q -m gpu ${TESTS:-tests/targets/cuda} $processes -p no:cacheprovider \
    --junitxml "$out/gpu_tests.xml" >"$out/gpu_tests.log" 2>&1
tests=$?
tail -25 "$out/gpu_tests.log"
timeout 170 "$python" -m benchmarks.gpu --json "$out/gpu.json" --seconds 130 \
    ${NBHVP_SIMULATED_GPU:+--simulated} 2>&1 | tee "$out/gpu.log"
figures=${PIPESTATUS[0]}
date
[ "$tests" = 0 ] && [ "$figures" = 0 ]
