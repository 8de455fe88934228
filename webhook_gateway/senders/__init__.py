"""One file per platform that sends webhooks; its name is the platform's, its class is `Sender`.

Adding a platform is adding a file: it is found by its name.
"""

import importlib
import pkgutil

from webhook_gateway.senders.base import SenderType, UnknownPlatform

__all__ = ["platforms", "sender_type"]

SHARED = ("base", "declared", "elements", "envelope", "forms", "proofs", "reading")
"""Files here that speak for no platform."""


def platforms() -> tuple[str, ...]:
    """Every platform with a file here, in alphabetical order."""
    return tuple(m.name for m in pkgutil.iter_modules(__path__) if m.name not in SHARED)


def sender_type(platform: str) -> SenderType:
    """The class that speaks for a platform. Raises UnknownPlatform."""
    if platform not in platforms():
        raise UnknownPlatform(platform)
    return importlib.import_module(f"{__name__}.{platform}").Sender
