"""Give large buffers back to the system when they are freed, instead of keeping them in the heap.

glibc gives a buffer of 128 KiB or more pages of its own, but raises that limit, up to 32 MiB, each
time one is freed (mallopt(3), M_MMAP_THRESHOLD). After the first fetch, a worker's fetches and
RocksDB's write buffers are then cut from the heap, between small pieces that stay, and what is
freed between these is of little use: 66 MB after 1.5 million events, and rising. A limit that is
set is not raised.
"""

import contextlib
import ctypes

__all__ = ["give_back_large_buffers"]

M_MMAP_THRESHOLD = -3  # malloc.h of glibc
THRESHOLD_BYTES = 128 * 1024


def give_back_large_buffers() -> bool:
    """Before the first large buffer. False where the C library has no such setting."""
    with contextlib.suppress(AttributeError, OSError):
        return ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, THRESHOLD_BYTES) == 1
    return False
