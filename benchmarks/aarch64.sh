#!/usr/bin/env bash
# An aarch64 Linux with Python in a folder, run by qemu-user on an x86-64 machine: no root, no binfmt, no container.
#
#   benchmarks/aarch64.sh FOLDER                  make it (Debian, once; 60 MB); what is there is kept
#   FOLDER/python SCRIPT|-m MODULE [ARGUMENT]...  run something with it; packages in FOLDER/site are seen
#
# Debian packages come through apt with lists and a cache of its own below FOLDER; nothing on this machine is changed.
# qemu is the one of bookworm-backports (10.x): bookworm's own, 7.2, crashes when onnxruntime is imported.
set -euo pipefail

[[ $# -eq 1 && $1 != -* ]] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
folder=$(mkdir -p "$1" && cd "$1" && pwd)
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
keys=${DEBIAN_KEYS:-/usr/share/keyrings/debian-archive-keyring.gpg}
cpu=cortex-a76  # ARMv8.2 with dot products; the Cortex-A78AE of the Orins has the same instructions

arm=(libc6 libgcc-s1 libstdc++6 libgomp1 zlib1g libexpat1 libssl3 libffi8 libbz2-1.0 liblzma5 libsqlite3-0 libuuid1
    libcrypt1 libpython3.11-minimal libpython3.11-stdlib python3.11-minimal)

# fetch ARCHITECTURE SUITE PACKAGE... : .deb files into FOLDER/debs/ARCHITECTURE
fetch() {
    local architecture=$1 suite=$2 state="$folder/apt/$1" debs="$folder/debs/$1"
    shift 2
    mkdir -p "$state"/{lists/partial,cache/archives/partial,etc} "$debs"
    : >"$state/status"
    printf 'deb [signed-by=%s] %s %s main\n' "$keys" "$mirror" "$suite" >"$state/etc/sources.list"
    local options=(-q -oAPT::Architecture="$architecture" -oAPT::Architectures="$architecture"
        -oDir::State="$state" -oDir::State::Lists="$state/lists" -oDir::State::status="$state/status"
        -oDir::Cache="$state/cache" -oDir::Etc::SourceList="$state/etc/sources.list" -oDir::Etc::SourceParts=/dev/null
        -oDir::Etc::Preferences=/dev/null -oDir::Etc::PreferencesParts=/dev/null -oAcquire::Languages=none
        -oAPT::Sandbox::User=)
    apt-get "${options[@]}" update >&2
    (cd "$debs" && apt-get "${options[@]}" download "$@" >&2)
}

unpack() {
    local deb
    for deb in "$folder/debs/$1"/*.deb; do
        dpkg-deb --extract "$deb" "$2"
    done
}

if [[ ! -x $folder/python ]]; then
    fetch amd64 bookworm-backports qemu-user
    fetch arm64 bookworm "${arm[@]}"
    unpack amd64 "$folder/qemu"
    unpack arm64 "$folder/root"
    mkdir -p "$folder/site"
    # -B: no byte code, so that site holds what wheels hold. One thread: emulated threads only wait for each other.
    # -0: Python takes its argv[0] for sys.executable, so that what it starts is emulated, too, without binfmt.
    cat >"$folder/python.new" <<SCRIPT
#!/bin/sh
export PYTHONPATH='$folder/site' PYTHONNOUSERSITE=1 OMP_NUM_THREADS=1
exec '$folder/qemu/usr/bin/qemu-aarch64' -0 '$folder/python' -cpu $cpu -L '$folder/root' \\
    '$folder/root/usr/bin/python3.11' -B "\$@"
SCRIPT
    chmod +x "$folder/python.new"
    "$folder/python.new" -c 'import platform, sys; assert platform.machine() == "aarch64", platform.machine()'
    rm -rf "$folder/apt" "$folder/debs"
    mv "$folder/python.new" "$folder/python"
fi
"$folder/qemu/usr/bin/qemu-aarch64" --version | head -n 1
