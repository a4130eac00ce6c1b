"""Freed memory stays with the process: asking for it again costs no page faults."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
from edge.train.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        [b"x" * 2**20 for _ in range(64)]  # one at a time, glibc would keep it
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
before = faults()
keep_freed_memory()
faults()
print(before, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left as they are")
def test_freed_memory_is_had_again_without_page_faults():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before > 10 * 64 * 200  # pages of 4 KiB
    assert after < before / 20
