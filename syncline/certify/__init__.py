"""Certification: the contract of a connector, shown check by check against a platform.

`CHECKS` is the one list. `syncline certify` runs it and prints a score card; `tests/conformance`
runs each of them as a test; `docs/platforms.md` is the card of all platforms.
"""

from syncline.certify import failing, hooks, plain, reading, working, writing
from syncline.certify.checks import CHECKS, Check

__all__ = ["CHECKS", "Check"]

GROUPS = (
    "writing", "lost answers and faults", "limits", "keys", "the worker", "reading", "schema",
    "mapping", "quotas", "spec", "secrets", "webhooks",
)  # fmt: skip
_MODULES = (failing, hooks, plain, reading, working, writing)  # each adds to the list
CHECKS.sort(key=lambda check: GROUPS.index(check.group))
