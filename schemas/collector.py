"""The garbage collector of a process whose messages are many objects and no cycles."""

import gc

__all__ = ["calm"]


def calm() -> None:
    """For the end of a start. What was made until now stays for good and is not looked at again;
    looking for cycles took a sixth of a worker's time (commands of 500 rows), and a quarter of a
    gateway's (a hundred events a request)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
