"""The connectors process with the platform of `tests/tiny_platform.py`, for tests that kill it.

`python -m tests.tiny_worker PLATFORM SLOT BOOTSTRAP REGISTRY_URL`; logs its admin port.
"""

import sys
from dataclasses import replace

from connectors.registry import register
from connectors.run import ConnectorsConfig, run
from schemas.codec import Codec
from tests.tiny_platform import Tiny


def main() -> None:
    platform, slot, bootstrap, registry_url = sys.argv[1:]
    named = type("Tiny", (Tiny,), {"spec": replace(Tiny.spec, platform=platform)})
    register(platform, named)
    kafka = {"bootstrap.servers": bootstrap}
    run(ConnectorsConfig(kafka, [platform], slot), Codec.from_registry(registry_url))


if __name__ == "__main__":
    main()
