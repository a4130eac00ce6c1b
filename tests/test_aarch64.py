"""The device runtime on emulated aarch64. EDGE_AARCH64: a folder that benchmarks/aarch64.sh made, kept between runs."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from edge.benchmarks.aarch64 import check, run
from edge.errors import GateError

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_predict_verify_and_bench_run_on_aarch64_and_int8_is_within_a_step_of_x86(tmp_path):
    given, folder = os.environ.get("EDGE_AARCH64_BUNDLE"), Path(os.environ.get("EDGE_AARCH64", tmp_path / "aarch64"))
    if given is None:
        pytest.skip("give EDGE_AARCH64_BUNDLE=the folder of a bundle with INT8")
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("no apt here: the emulated system is made of Debian's packages")
    subprocess.run([ROOT / "benchmarks/aarch64.sh", folder], check=True)
    found = run(folder, [Path(given)])
    assert found["machine"].startswith("aarch64")
    assert found["bundles"][0]["int8_codes"]["values"] > 0
    check(found)


def entry(steps):
    fine = {"agrees": True, "detail": ""}
    rows = [{"precision": "fp32"}, {"precision": "int8"}]
    return {"bundle": "b", "verify": {"load": True}, "predict": {"int8": fine}, "int8_codes": {"largest_steps": steps},
            "bench": rows}  # fmt: skip


def test_one_step_passes_and_two_do_not():
    check({"bundles": [entry(1)]})
    with pytest.raises(GateError, match="2 steps"):
        check({"bundles": [entry(2)]})
