#!/usr/bin/env bash
# FP32, FP16 and INT8 engines of all students on an NVIDIA GPU against torch and ONNX Runtime: benchmarks/gpu.py.
#
#   benchmarks/gpu.sh run --out gpu.csv RUN...       on a machine with a GPU where edge is installed, or unpacked as below
#   benchmarks/gpu.sh dry-run --out gpu.csv RUN...   anywhere: all of it but the GPU; nothing is timed
#
# For a bare machine with a GPU and no network (x86-64, Python 3.12, torch with CUDA 13 on it), in this order:
#
#   benchmarks/gpu.sh pack PACK_GPU.py .gpu          here: pieces of the runtimes and the small wheels, into .gpu
#   benchmarks/gpu.sh unpack .gpu                    there, once for each piece that was carried over; into $EDGE_GPU_SITE
#   benchmarks/gpu.sh run --out gpu.csv RUN...       there, from the repository's root
#
# RUN is the folder of an `edge build` (bundles, test samples, trained models). PACK_GPU.py is ../shared/device/pack_gpu.py.
# The support matrix of TensorRT-RTX names 7.5, 8.6, 8.9 and 12.x, not the H100's 9.0: there its rows may hold an error.
# https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/getting-started/support-matrix.html
set -euo pipefail

site=${EDGE_GPU_SITE:-/tmp/site}
python=${PYTHON:-python3}

usage() {
    sed -n '2,16s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

# Wheels that a bare machine lacks; numpy and torch are on it. cuda-python's parts: bindings and pathfinder.
wheels=(click tqdm safetensors "onnx>=1.19" protobuf ml_dtypes typing_extensions flatbuffers packaging
    "cuda-bindings>=13,<14" "cuda-pathfinder")

pack() {
    local tool=$1 folder=$2
    mkdir -p "$folder/wheels"
    "$python" "$tool" ort-cuda --out "$folder" --chunk-mib 45
    "$python" "$tool" trt-rtx --out "$folder" --chunk-mib 45
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_24_x86_64 \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
        --dest "$folder/wheels" "${wheels[@]}"
    du -sh "$folder"/* >&2
}

unpack() {
    local folder=$1 set wheel
    mkdir -p "$site"
    for set in ort-cuda trt-rtx; do
        if [[ -f "$folder/$set.json" ]]; then
            # It knows one place, /tmp/site.
            sed "s#/tmp/site#$site#g" "$folder/unpack.py" | "$python" - "$folder" "$set"
        fi
    done
    for wheel in "$folder"/wheels/*.whl; do
        if [[ -f "$wheel" ]]; then
            "$python" -m zipfile -e "$wheel" "$site"
        fi
    done
    # The package `tensorrt_rtx` itself is two lines over its bindings, and comes as no wheel.
    mkdir -p "$site/tensorrt_rtx"
    printf 'from tensorrt_rtx_bindings import *\nfrom tensorrt_rtx_bindings import __version__\n' \
        >"$site/tensorrt_rtx/__init__.py"
}

# The repository's folders as the package that they are installed as, where edge is not installed.
link_edge() {
    local root part
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    rm -rf "$site/edge"
    mkdir -p "$site/edge"
    ln -s "$root"/edge/* "$site/edge/"
    for part in train compress deploy benchmarks; do
        ln -s "$root/$part" "$site/edge/$part"
    done
}

measure() {
    if ! "$python" -c 'import edge.benchmarks' 2>/dev/null; then
        export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
        link_edge
    fi
    # Not the folder edge/ that may lie in the current one: it is a part of the package only. And torch first: it brings
    # the cuBLAS and cuDNN that ONNX Runtime's CUDA provider looks for.
    "$python" -c 'import runpy, sys
sys.path[:] = filter(None, sys.path)
import torch
sys.argv[0] = "gpu"
runpy.run_module("edge.benchmarks.gpu", run_name="__main__")' "$@"
}

[[ $# -ge 1 ]] || usage
command=$1
shift
case $command in
    pack) [[ $# -eq 2 ]] || usage; pack "$@" ;;
    unpack) [[ $# -eq 1 ]] || usage; unpack "$@" ;;
    run) measure "$@" ;;
    dry-run) measure --dry-run "$@" ;;
    *) usage ;;
esac
