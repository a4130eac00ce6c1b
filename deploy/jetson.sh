#!/bin/sh
# From a bare JetPack (or any Linux with Python 3.10 or newer) to a measured engine. Run it where the pack was unpacked:
#
#   sh jetson.sh [--jetpack] [--seconds S]
#
#   --jetpack     install JetPack's TensorRT with sudo apt-get where it is missing (the only step that asks for root)
#   --seconds S   time each engine at least so long (1)
#
# Beside this script: bundle/, and if they are there wheels/ (then no network is used) and test.npz (accuracy).
# It leaves doctor.json, verify.json, report.json, report.html, and engine.json where TensorRT is, in results/.
# EDGE_HOME is where edge is installed: ~/.local/share/edge-colearn. Run twice, it installs nothing the second time.
# Exit codes are those of edge: 3 a check failed, 4 this machine is too old, 5 no engine can run.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
home=${EDGE_HOME:-${HOME:?HOME is not set; set EDGE_HOME}/.local/share/edge-colearn}
venv=$home/venv
seconds=1 jetpack=no

say() { printf 'jetson.sh: %s\n' "$*" >&2; }
fail() { code=$1; shift; say "$*"; exit "$code"; }
has_tensorrt() { "$1" -c 'import tensorrt' 2>/dev/null; }

while [ $# -gt 0 ]; do
    case $1 in
        --jetpack) jetpack=yes; shift ;;
        --seconds) [ $# -ge 2 ] || fail 2 '--seconds needs a number'; seconds=$2; shift 2 ;;
        *) fail 2 "$1 is not known; sed -n 2,13p jetson.sh" ;;
    esac
done

cd "$here"
[ -f bundle/card.json ] || fail 2 "no bundle/ beside $0; unpack the whole pack"
if [ -f SHA256SUMS ]; then
    sha256sum --check --quiet --strict SHA256SUMS >&2 || fail 2 'the pack is damaged; copy it again'
fi

# The system's own Python: JetPack's TensorRT is for that one.
python=${PYTHON:-python3}
command -v "$python" >/dev/null || fail 4 'python3 is missing: sudo apt-get install -y python3'
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail 4 "edge needs Python 3.10 or newer (JetPack 6 or 7); this is $("$python" --version)"

if [ -f /etc/nv_tegra_release ] && ! has_tensorrt "$python"; then
    if [ "$jetpack" = yes ]; then
        sudo apt-get update && sudo apt-get install -y nvidia-jetpack
    else
        say "TensorRT is missing, ONNX Runtime is used; with it: sudo apt-get install -y nvidia-jetpack (or --jetpack)"
    fi
fi

# What is installed is what these wheels are: another pack installs again, the same one does not.
if [ -d wheels ]; then
    stamp=$(cd wheels && sha256sum -- *.whl | sha256sum | cut -d ' ' -f 1)
else
    stamp=online
fi
if has_tensorrt "$python"; then stamp="$stamp tensorrt"; fi # installed since: edge is installed again, with cuda-python
if [ "$(cat "$venv/edge-stamp" 2>/dev/null)" != "$stamp" ] || ! "$venv/bin/python" -c 'import edge' 2>/dev/null; then
    say "installing edge into $venv"
    rm -rf "$venv"
    mkdir -p "$home"
    # --without-pip: a bare JetPack has no python3-venv, only the module. The system's packages: TensorRT is one.
    "$python" -m venv --without-pip --system-site-packages "$venv"
    # TensorRT engines need cuda-python, which no JetPack has: CUDA 12 in JetPack 6 (Python 3.10), 13 in JetPack 7.
    cuda=
    if has_tensorrt "$venv/bin/python"; then
        cuda=$("$python" -c 'import sys; print("cuda-python<13" if sys.version_info < (3, 12) else "cuda-python<14")')
    fi
    if [ -d wheels ]; then
        [ -f "$(echo wheels/cuda_python-*.whl)" ] || cuda=
        "$venv/bin/python" "$(echo wheels/pip-*.whl)/pip" install --quiet --disable-pip-version-check --no-index \
            --find-links wheels 'edge-colearn[cpu]' ${cuda:+"$cuda"}
    else
        "$venv/bin/python" -m pip --version >/dev/null 2>&1 ||
            fail 5 'pip is missing: sudo apt-get install -y python3-pip, or make the pack with --wheels'
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check 'edge-colearn[cpu]' ${cuda:+"$cuda"}
    fi
    echo "$stamp" >"$venv/edge-stamp"
fi
edge=$venv/bin/edge

mkdir -p results
"$edge" doctor >&2 # 4 and 5 end it here
"$edge" doctor --json >results/doctor.json
"$edge" verify bundle >&2
"$edge" verify bundle --json >results/verify.json
set -- bundle
[ ! -f test.npz ] || set -- bundle --data test.npz
"$edge" bench "$@" --seconds "$seconds" --out results/report.json --html results/report.html
if has_tensorrt "$venv/bin/python"; then
    "$edge" engine "$@" --seconds "$seconds" --out results/engine.json
    "$edge" verify bundle --backend tensorrt >&2
else
    rm -f results/engine.json
    say 'no TensorRT here: the engine is ONNX Runtime, results/report.json holds its figures'
fi
say "done: $here/results"
