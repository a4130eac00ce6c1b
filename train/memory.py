"""Memory that one step of training frees and the next one wants again."""

import ctypes

# Parameters of mallopt(3), https://man7.org/linux/man-pages/man3/mallopt.3.html
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**25  # bytes: no higher threshold for blocks of their own is taken
KEPT = 2**29  # bytes that may lie free at the end of the heap


def keep_freed_memory() -> None:
    """Keep what is freed in this process; elsewhere than under glibc nothing happens.

    By itself glibc gives freed blocks of megabytes back to the system, and gets them again in the next step, cleared
    page by page: a third of the time of a training step at batch 128.
    """
    mallopt = getattr(ctypes.pythonapi, "mallopt", None)  # looked up in the process; musl, macOS, Windows have none
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST)
        mallopt(M_TRIM_THRESHOLD, KEPT)
