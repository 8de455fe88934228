"""The connectors process with the platform of `tests/tiny_platform.py`, for tests that kill it.

`python -m tests.tiny_worker PLATFORM SLOT BOOTSTRAP REGISTRY_URL`; prints its admin port in a log line.
"""

import sys
from dataclasses import replace

from connectors.registry import register
from connectors.run import ConnectorsConfig, run
from schemas.codec import Codec
from tests.tiny_platform import Tiny


def main() -> None:
    import faulthandler
    import signal

    faulthandler.register(signal.SIGUSR1, all_threads=True)
    platform, slot, bootstrap, registry_url = sys.argv[1:]
    named = type("Tiny", (Tiny,), {"spec": replace(Tiny.spec, platform=platform)})
    register(platform, named)
    kafka = {"bootstrap.servers": bootstrap}
    run(ConnectorsConfig(kafka, [platform], slot), Codec.from_registry(registry_url))


if __name__ == "__main__":
    main()
