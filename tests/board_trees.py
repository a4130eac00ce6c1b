"""File trees like those of Jetsons, for tests: `build(folder, "orin-nano")`.

Paths, labels and forms are those of the boards (public device trees, NVIDIA's Developer Guide, outputs that users
posted); the values are made up, round enough to check sums by hand.
"""

from dataclasses import dataclass, field
from pathlib import Path

Rail = tuple[str, int, int]  # label, millivolts, milliamperes

# A file reboot-N in the root makes mode N one that needs a reboot; a file `stuck` keeps the mode as it is, silently.
NVPMODEL = """#!/bin/sh
# A stand-in for NVIDIA's nvpmodel. It answers as the real one does, which may change nothing.
state="{root}/var/lib/nvpmodel/status"
log="{root}/nvpmodel.log"
id=$(sed -n 's/.*pmode:0*\\([0-9]\\)/\\1/p' "$state")
case "$1" in
-q) echo "NVPM WARN: fan mode is not set!" >&2
    name=$(sed -n "s/< POWER_MODEL ID=$id NAME=\\(.*\\) >/\\1/p" "{root}/etc/nvpmodel.conf")
    printf 'NV Power Mode: %s\\n%s\\n' "$name" "$id" ;;
-m) echo "set $2" >> "$log"
    if [ -e "{root}/reboot-$2" ]; then
        echo "NVPM WARN: Reboot required for changing to this power mode: $2"
        echo "NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:"
        read answer; echo "answer $answer" >> "$log"
        echo "NVPM ERROR: bad input!"; exit 0
    fi
    if [ -e "{root}/stuck" ]; then exit 0; fi
    echo "pmode:000$2" > "$state" ;;
esac
"""


@dataclass(frozen=True)
class Tree:
    model: str
    compatible: tuple[str, ...]
    release: str
    memory_kb: int
    modes: tuple[str, ...]
    mode: int = 0
    ina3221: dict[str, tuple[Rail, ...]] = field(default_factory=dict)  # "bus-address/hwmonN"
    ina238: dict[str, tuple[str, int]] = field(default_factory=dict)  # label, microwatts
    gpu: str = "17000000.gpu"
    zones: dict[str, int] = field(default_factory=dict)  # millidegrees
    cuda: str | None = None
    tensorrt: str | None = None  # Debian package and version
    swap_kb: int = 0


def release(major: int, revision: str) -> str:
    return (
        f"# R{major} (release), REVISION: {revision}, GCID: 12345678, BOARD: generic, EABI: aarch64, DATE: made up\n"
        "# KERNEL_VARIANT: oot\n"
    )


TREES = {
    "nano": Tree(
        "NVIDIA Jetson Nano Developer Kit", ("nvidia,p3449-0000-b00+p3448-0000-b00", "nvidia,jetson-nano"),
        release(32, "7.4"), 4059712, ("MAXN", "5W"), gpu="57000000.gpu", zones={"GPU-therm": 30000, "PMIC-Die": 100000},
    ),
    "xavier-nx": Tree(
        "NVIDIA Jetson Xavier NX Developer Kit", ("nvidia,p3449-0000+p3668-0000", "nvidia,tegra194"),
        release(35, "4.1"), 7015424, ("MODE_15W_2CORE", "MODE_15W_4CORE", "MODE_15W_6CORE"), 2,
        {"7-0040/hwmon/hwmon4": (("VDD_IN", 5000, 600), ("VDD_CPU_GPU_CV", 5000, 100), ("VDD_SOC", 5000, 150))},
        gpu="17000000.gv11b", zones={"AO-therm": 40000, "CPU-therm": 42000, "PMIC-Die": 50000},
        cuda="11.4.315", tensorrt="libnvinfer8 8.5.2-1+cuda11.4", swap_kb=3507712,
    ),
    "agx-xavier": Tree(
        "Jetson-AGX", ("nvidia,p2972-0000", "nvidia,p2888-0004", "nvidia,tegra194"), release(35, "2.1"), 31920128,
        ("MAXN", "MODE_10W"), 1,
        {"1-0040/hwmon/hwmon3": (("GPU", 19000, 10), ("CPU", 19000, 20), ("SOC", 19000, 50)),
         "1-0041/hwmon/hwmon4": (("CV", 19000, 0), ("VDDRQ", 19000, 20), ("SYS5V", 5000, 400))},
        gpu="17000000.gv11b",
    ),
    "orin-nano": Tree(
        "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        ("nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234"), release(36, "4.3"), 7802880,
        ("15W", "25W", "MAXN_SUPER", "7W"), 1,
        {"1-0040/hwmon/hwmon1": (("VDD_IN", 5000, 1000), ("VDD_CPU_GPU_CV", 5000, 200), ("VDD_SOC", 5000, 300))},
        zones={"cpu-thermal": 48000, "gpu-thermal": 49000, "tj-thermal": 49000}, cuda="12.6.68",
        tensorrt="libnvinfer10 10.3.0.30-1+cuda12.5", swap_kb=3901440,
    ),
    "orin-nx": Tree(  # the device tree of JetPack 5 names all modules that fit the carrier board
        "NVIDIA Orin NX Developer Kit", tuple(f"nvidia,p3509-0000+p3767-000{sku}" for sku in (0, 1, 3)),
        release(35, "3.1"), 16217088, ("MAXN", "10W", "15W", "25W"), 3,
        {"1-0040/hwmon/hwmon2": (("VDD_IN", 4900, 1000), ("VDD_CPU_GPU_CV", 4900, 100), ("VDD_SOC", 4900, 300))},
        zones={"GPU-therm": -256000, "tj-therm": 45500}, cuda="11.4.315", tensorrt="libnvinfer8 8.5.2-1+cuda11.4",
    ),
    "agx-orin": Tree(
        "NVIDIA Jetson AGX Orin Developer Kit", ("nvidia,p3737-0000+p3701-0005", "nvidia,p3701-0005"),
        release(39, "2.0"), 64301056, ("MAXN", "15W", "30W", "50W"), 2,
        {"1-0040/hwmon/hwmon3": (("VDD_GPU_SOC", 20000, 100), ("VDD_CPU_CV", 20000, 50), ("VIN_SYS_5V0", 5000, 1000)),
         "1-0041/hwmon/hwmon4": (("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5000, 60), ("NC", 0, 0))},
        cuda="13.2.1", tensorrt="libnvinfer10 10.16.2.10-1+cuda13.2",
    ),
    "thor": Tree(
        "NVIDIA Jetson AGX Thor Developer Kit", ("nvidia,p4071-0000+p3834-0008", "nvidia,tegra264"),
        release(38, "4.0"), 128791552, ("MAXN", "120W", "90W", "70W"), 1,
        {"2-0040/hwmon/hwmon4": (("VDD_GPU", 12000, 500), ("VDD_CPU_SOC_MSS", 12000, 300), ("VIN_SYS_5V0", 5000, 900))},
        {"2-0044/hwmon/hwmon5": ("VIN", 30500000)}, gpu="gpu-gpc-0", zones={"tj-thermal": 51250}, cuda="13.0.48",
    ),
}  # fmt: skip


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{value}\n")


def build(root: Path, name: str) -> Path:
    """Write the tree of a board into a new folder of `root`; the folder."""
    tree, root = TREES[name], root / name
    write(root / "etc/nv_tegra_release", tree.release.rstrip("\n"))
    device_tree = root / "proc/device-tree"
    device_tree.mkdir(parents=True)
    (device_tree / "model").write_bytes(tree.model.encode() + b"\0")
    (device_tree / "compatible").write_bytes(b"".join(entry.encode() + b"\0" for entry in tree.compatible))
    write(root / "proc/meminfo", f"MemTotal: {tree.memory_kb:>14} kB\nSwapTotal: {tree.swap_kb:>13} kB")
    write(root / "proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd aes crc32 asimddp\n")
    sensors(root, tree)
    clocks(root, tree)
    packages(root, tree)
    nvpmodel(root, tree.modes, tree.mode)
    return root


def sensors(root: Path, tree: Tree) -> None:
    i2c = root / "sys/bus/i2c/devices"
    for place, rails in tree.ina3221.items():
        write(i2c / place / "name", "ina3221")
        for number, (label, millivolts, milliamperes) in enumerate(rails, 1):
            write(i2c / place / f"in{number}_label", label)
            write(i2c / place / f"in{number}_input", millivolts)
            write(i2c / place / f"curr{number}_input", milliamperes)
        write(i2c / place / "in7_label", "sum of shunt voltages")
        write(i2c / place / "in7_input", 0)
    for place, (label, microwatts) in tree.ina238.items():
        write(i2c / place / "name", "ina238")
        write(i2c / place / "label", label)
        write(i2c / place / "power1_input", microwatts)
    for number, (zone, value) in enumerate(tree.zones.items()):
        folder = root / f"sys/devices/virtual/thermal/thermal_zone{number}"
        write(folder / "type", zone)
        write(folder / "temp", value)
        (root / "sys/class/thermal").mkdir(parents=True, exist_ok=True)
        (root / f"sys/class/thermal/thermal_zone{number}").symlink_to(folder)
    for number, (kind, state) in enumerate({"pwm-fan": 3, "cpu-throttle-alert": 0, "gpu-throttle-alert": 0}.items()):
        write(root / f"sys/class/thermal/cooling_device{number}/type", kind)
        write(root / f"sys/class/thermal/cooling_device{number}/cur_state", state)
    for number in (1, 2, 3):
        write(root / f"sys/class/hwmon/hwmon0/oc{number}_event_cnt", 0)


def clocks(root: Path, tree: Tree) -> None:
    gpu = root / "sys/class/devfreq" / tree.gpu
    for name, value in {"cur_freq": 612000000, "min_freq": 306000000, "max_freq": 1020000000}.items():
        write(gpu / name, value)
    write(gpu / "device/load", 500)
    for core in (0, 1):
        folder = root / f"sys/devices/system/cpu/cpu{core}/cpufreq"
        for name, value in {
            "scaling_cur_freq": 729600,
            "scaling_min_freq": 729600,
            "scaling_max_freq": 1728000,
        }.items():
            write(folder / name, value)


def packages(root: Path, tree: Tree) -> None:
    if tree.cuda:
        write(root / "usr/local/cuda/version.json", f'{{"cuda": {{"name": "CUDA SDK", "version": "{tree.cuda}"}}}}')
    stanzas = ["Package: libnvinfer-bin\nStatus: install ok installed\nVersion: 1.0"]
    if tree.tensorrt:
        name, version = tree.tensorrt.split()
        stanzas.append(f"Package: {name}\nStatus: install ok installed\nArchitecture: arm64\nVersion: {version}")
    write(root / "var/lib/dpkg/status", "\n\n".join(stanzas))


def nvpmodel(root: Path, modes: tuple[str, ...], mode: int) -> None:
    lines = "\n".join(
        f"< POWER_MODEL ID={number} NAME={name} >\nCPU_ONLINE CORE_0 1" for number, name in enumerate(modes)
    )
    write(root / "etc/nvpmodel.conf", f"< PARAM TYPE=FILE NAME=CPU_ONLINE >\n{lines}\n< PM_CONFIG DEFAULT={mode} >")
    write(root / "var/lib/nvpmodel/status", f"pmode:{mode:04d}")
    program(root, "nvpmodel", NVPMODEL.format(root=root))


def program(root: Path, name: str, text: str) -> Path:
    """An executable file in usr/sbin."""
    path = root / "usr/sbin" / name
    write(path, text)
    path.chmod(0o755)
    return path
