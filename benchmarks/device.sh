#!/usr/bin/env bash
# One run on a machine with a GPU, PyTorch and JAX, and without network and TensorFlow.
#
#   benchmarks/device.sh FOLDER [WHEELS] [--tiny]
#
# Writes into FOLDER: golden.txt, the differences of every network from the official
# outputs; training.json, inference.json and synthesis.json, rows of training.py in
# bfloat16 beside PyTorch, plain and compiled. WHEELS is a folder with the packages that
# the machine lacks (keras, optree, namex, ml_dtypes, rich and what else `import keras`
# misses). It takes at most 8 minutes: every part has a limit, and leaves what it has.
# --tiny rehearses it on a CPU, with one small network.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
output=$(mkdir -p "$1" && cd "$1" && pwd)
wheels=
presets="nafnet_mh_c_width32 maxim_mh_c@1 restormer_mh_c_width48 hinet_mh_c_width64"
presets+=" mprnet_mh_c_width96 xydeblur_mh_c_width32"
sizes="--batch 8 --patch 256 --steps 10 --rounds 3"
engines="jax pytorch pytorch-compile" dtype=mixed_bfloat16 slower=1
goldens="nafnet_mhc_k4 restormer_mhc_k4 hinet_mhc_k4 mprnet_mhc_k4 xydeblur"
for argument in "${@:2}"; do
  case $argument in
    --tiny)
      presets=xydeblur_mh_c_small sizes="--batch 1 --patch 16 --steps 1 --rounds 1"
      engines=jax dtype=float32 slower=4 goldens=nafnet_mhc_k4
      ;;
    *) wheels=$argument ;;
  esac
done

packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
if [ -n "$wheels" ]; then
  python3 -m pip install --quiet --no-index --no-deps --target "$packages" "$wheels"/*.whl
fi
export PYTHONPATH="$here/..:$packages${PYTHONPATH:+:$PYTHONPATH}"
export KERAS_BACKEND=jax PYTHONUNBUFFERED=1

# part SECONDS NAME COMMAND: what it prints goes into NAME.txt as well.
failed=0
part() {
  local begin=$SECONDS
  timeout $((slower * $1)) "${@:3}" 2>&1 | tee "$output/$2.txt"
  local status=${PIPESTATUS[0]}
  echo "$2: status $status after $((SECONDS - begin)) s"
  [ "$status" -eq 0 ] || failed=1
}

# shellcheck disable=SC2086
# GPUs multiply float32 in fewer bits unless they are told not to.
JAX_DEFAULT_MATMUL_PRECISION=highest \
  part 120 golden python3 "$here/golden_differences.py" $goldens
for task in training inference synthesis; do
  case $task in training) limit=200 ;; inference) limit=90 ;; *) limit=60 ;; esac
  # shellcheck disable=SC2086
  part $limit $task python3 "$here/training.py" $presets --tasks $task \
    --engines $engines --dtypes $dtype $sizes --output "$output/$task.json"
done
exit $failed
