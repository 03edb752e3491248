#!/usr/bin/env bash
# Builds Tempo against a LibTorch with CUDA and measures training with a GPU as the worker, in under nine minutes and
# without a network. Writes gpu_bench.json and gpu_bench.md. Says so and exits 0 where there is no NVIDIA GPU.
#
# usage: gpu_bench.sh [options]
#   --out DIR (build/gpu-bench)   where the two files go
#   --build DIR (build/gpu)       build folder; what is there already is used again
#   --prefix DIR                  headers and libraries that the system lacks (fmt, libsodium, Highway, CLI11,
#                                 nlohmann_json, Google Benchmark, protobuf): a folder with usr/include and usr/lib, as
#                                 `dpkg-deb -x` leaves it
#   --device NAME (cuda:0)        cpu tries the script where there is no GPU
#   --models A,B (resnet50,vit_base)   --batch-size N (64)   --steps N (8)
#   --time-limit S (170)          after which no other setting of a model is begun
#
# LibTorch is that of `python3 -c "import torch"` (pip: 2.7 or later), or of CMAKE_PREFIX_PATH. gRPC and metrics are left out.
set -euo pipefail
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
root=$(cd "$(dirname "$0")/.." && pwd)
out=$root/build/gpu-bench build=$root/build/gpu prefix="" device=cuda:0
models=resnet50,vit_base batch=64 steps=8 limit=170
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=$2 ;; --build) build=$2 ;; --prefix) prefix=$2 ;; --device) device=$2 ;; --models) models=$2 ;;
    --batch-size) batch=$2 ;; --steps) steps=$2 ;; --time-limit) limit=$2 ;;
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "gpu_bench: got \"$1\", expected one of the options in --help" >&2; exit 2 ;;
  esac
  [ $# -ge 2 ] || { echo "gpu_bench: $1 has no value, expected one" >&2; exit 2; }
  shift 2
done
if [ "$device" != cpu ] && ! nvidia-smi -L 2>/dev/null | grep -q GPU; then
  echo "gpu_bench: no NVIDIA GPU on this machine (nvidia-smi lists none); nothing was built or measured"
  exit 0
fi

start=$SECONDS
torch=$(python3 -c 'import torch; print(torch.utils.cmake_prefix_path)' 2>/dev/null || true)
if [ -n "$prefix" ]; then
  prefix=$(cd "$prefix" && pwd)
  libraries=$prefix/usr/lib/$(uname -m)-linux-gnu
  export PKG_CONFIG_PATH=$libraries/pkgconfig:$prefix/usr/lib/pkgconfig:$prefix/usr/share/pkgconfig
  export PKG_CONFIG_SYSROOT_DIR=$prefix LD_LIBRARY_PATH=$libraries:${LD_LIBRARY_PATH:-} CPATH=$prefix/usr/include:$prefix/usr/include/$(uname -m)-linux-gnu
  export LIBRARY_PATH=$libraries PATH=$prefix/usr/bin:$PATH
fi
[ -d "${CUDA_HOME:-/usr/local/cuda}/bin" ] && PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin
mkdir -p "$build"
cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DTEMPO_GRPC=OFF -DTEMPO_METRICS=OFF \
  -DTEMPO_AUDIT=OFF -DTEMPO_TESTS=OFF "-DCMAKE_PREFIX_PATH=$torch;${prefix:+$prefix/usr;}${CMAKE_PREFIX_PATH:-}" >"$build.log" 2>&1 ||
  { tail -5 "$build.log" >&2; echo "gpu_bench: configuring failed, see $build.log" >&2; exit 1; }
ninja -C "$build" tempo tempo-worker tempo-bench >>"$build.log" 2>&1 ||
  { grep -m 5 -E "error|FAILED" "$build.log" >&2; echo "gpu_bench: building failed, see $build.log" >&2; exit 1; }
echo "gpu_bench: built in $((SECONDS - start)) s"

mkdir -p "$out"
threads=$(nproc)
# The worker's threads feed the GPU. The baseline has all CPUs.
tee_threads=$((threads > 4 ? threads - 2 : threads))
names=()
for model in ${models//,/ }; do
  resident=rotated_resident sampler=""
  case $model in vit*) resident=rotated_returned ;; esac
  if [ "$device" != cpu ]; then
    nvidia-smi --query-gpu=timestamp,utilization.gpu --format=csv,noheader,nounits -lms 200 >"$out/$model.util" &
    sampler=$!
  fi
  # One process a model: losses are checked against those of `local`, which runs first.
  timeout "$((limit + 60))" "$build/apps/tempo-bench" train --rounds 1 --steps "$steps" --batch-size "$batch" \
    --model "$model" --setting "local,unprotected,none,permuted,permuted_whole,permuted_bf16,$resident,oblique" \
    --tee-threads "$tee_threads" --local-threads "$threads" --worker-device "$device" --time-limit "$limit" \
    --benchmark_out="$out/$model.json" >"$out/$model.log" 2>&1 ||
    echo "gpu_bench: $model was cut off or failed: $(tail -1 "$out/$model.log")" >&2
  if [ -n "$sampler" ]; then kill "$sampler" 2>/dev/null || true; fi
  names+=("$model")
done
python3 "$root/tools/gpu_table.py" --out "$out" --device "$device" "${names[@]}"
echo "gpu_bench: $((SECONDS - start)) s in all; $out/gpu_bench.json, $out/gpu_bench.md"
