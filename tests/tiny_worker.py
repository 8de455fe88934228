"""The connectors process with the platform of `tests/tiny_platform.py`, for tests that kill it.

`python -m tests.tiny_worker PLATFORM SLOT BOOTSTRAP REGISTRY_URL`; logs its admin port. Quotas are
read from `$TINY_QUOTAS/PLATFORM.json`, where that is there.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

from connectors.registry import register
from connectors.run import ConnectorsConfig, run
from ratelimits import registry as quotas
from schemas.codec import Codec
from tests.tiny_platform import Tiny


def main() -> None:
    platform, slot, bootstrap, registry_url = sys.argv[1:]
    named = type("Tiny", (Tiny,), {"spec": replace(Tiny.spec, platform=platform)})
    register(platform, named)
    if folder := os.environ.get("TINY_QUOTAS"):
        quotas.FOLDER = Path(folder)
    kafka = {"bootstrap.servers": bootstrap}
    run(ConnectorsConfig(kafka, [platform], slot), Codec.from_registry(registry_url))


if __name__ == "__main__":
    main()
