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

# Wheels are for one Python: looked at before what is installed is touched.
if [ -d wheels ]; then
    made_for=$("$python" -c 'import json; print(json.load(open("PACK.json"))["python"] or "")' 2>/dev/null || true)
    here_is=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    [ -z "$made_for" ] || [ "$made_for" = "$here_is" ] ||
        fail 4 "the wheels are for Python $made_for, this is $here_is: edge pack BUNDLE --wheels --python $here_is"
fi

if [ -f /etc/nv_tegra_release ] && ! has_tensorrt "$python"; then
    if [ "$jetpack" = yes ]; then
        sudo apt-get update && sudo apt-get install -y nvidia-jetpack
    else
        say "TensorRT is missing, ONNX Runtime is used; with it: sudo apt-get install -y nvidia-jetpack (or --jetpack)"
    fi
fi

# TensorRT engines need cuda-python, which no JetPack has: the oldest that fits, for it must not be newer than the driver
# (edge/deploy/cuda.py). JetPack 7 (Python 3.12) may have TensorRT 11, for which onnx writes FP16 into the graph.
install() {
    # --without-pip: a bare JetPack has no python3-venv, only the module. The system's packages: TensorRT is one.
    "$python" -m venv --without-pip --system-site-packages "$venv" || return 1
    set -- 'edge-colearn[cpu]'
    if has_tensorrt "$venv/bin/python" && { [ ! -d wheels ] || [ -f "$(echo wheels/cuda_python-*.whl)" ]; }; then
        if "$python" -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then
            set -- "$@" 'cuda-python>=12.6,<12.7'
        else
            set -- "$@" 'cuda-python>=13.0,<13.1' 'onnx>=1.19'
        fi
    fi
    if [ -d wheels ]; then
        "$venv/bin/python" "$(echo wheels/pip-*.whl)/pip" install --quiet --disable-pip-version-check --no-index \
            --find-links wheels "$@"
    else
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    fi
}

# What is installed is what these wheels are: another pack installs again, the same one does not.
if [ -d wheels ]; then
    stamp=$(cd wheels && sha256sum -- *.whl | sha256sum | cut -d ' ' -f 1)
else
    stamp=online
fi
if has_tensorrt "$python"; then stamp="$stamp tensorrt"; fi # installed since: edge is installed again, with cuda-python
if [ "$(cat "$venv/edge-stamp" 2>/dev/null)" != "$stamp" ] || ! "$venv/bin/python" -c 'import edge' 2>/dev/null; then
    [ -d wheels ] || "$python" -m pip --version >/dev/null 2>&1 ||
        fail 5 'pip is missing: sudo apt-get install -y python3-pip, or make the pack with --wheels'
    say "installing edge into $venv"
    mkdir -p "$home"
    if [ -f "$venv/edge-stamp" ]; then # a whole one: it comes back if this goes wrong
        rm -rf "$venv.old"
        mv "$venv" "$venv.old"
    fi
    rm -rf "$venv"
    if ! install; then
        rm -rf "$venv"
        [ ! -d "$venv.old" ] || mv "$venv.old" "$venv"
        fail 5 "edge cannot be installed (see above); what was there before is as it was"
    fi
    echo "$stamp" >"$venv/edge-stamp"
    rm -rf "$venv.old"
fi
edge=$venv/bin/edge

mkdir -p results
rm -f results/engine.json
"$edge" doctor >&2 # 4 and 5 end it here
"$edge" doctor --json >results/doctor.json
"$edge" verify bundle >&2
"$edge" verify bundle --json >results/verify.json
set -- bundle
[ ! -f test.npz ] || set -- bundle --data test.npz
"$edge" bench "$@" --seconds "$seconds" --out results/report.json --html results/report.html
if has_tensorrt "$venv/bin/python"; then
    "$edge" engine "$@" --seconds "$seconds" --out results/engine.json # tests each engine with the golden vectors, too
else
    say 'no TensorRT here: the engine is ONNX Runtime, results/report.json holds its figures'
fi
say "done: $here/results"
