"""Large buffers go back to the system: seen in what the process holds, in a process of its own."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys
from streams.engine.memory import give_back_large_buffers

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
MIB = 1 << 20

def resident() -> int:
    return int(open("/proc/self/statm").read().split()[1]) * 4096

if sys.argv[1] == "set":
    assert give_back_large_buffers()
libc.free(libc.malloc(30 * MIB))  # from now on glibc keeps what is smaller, if it is let
before, held = resident(), []
for _ in range(40):
    large, small = libc.malloc(MIB), libc.malloc(64)
    ctypes.memset(large, 1, MIB)
    ctypes.memset(small, 1, 64)
    held.append(large)
for large in held:
    libc.free(large)
print((resident() - before) // MIB)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
@pytest.mark.parametrize(("how", "is_kept"), [("as ever", True), ("set", False)])
def test_large_buffers_that_were_freed(how: str, is_kept: bool) -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True,
                         timeout=60, check=True)  # fmt: skip
    assert (int(run.stdout) > 30) is is_kept, run.stdout
