"""One file per platform that sends webhooks; its name is the platform's, its class is `Sender`.

Adding a platform is adding a file: it is found by its name. Or no file: `webhook:` in the
platform's description, see `described.py`.
"""

import importlib
import pkgutil

from webhook_gateway.senders import described
from webhook_gateway.senders.base import SenderType, UnknownPlatform

__all__ = ["platforms", "sender_type"]

SHARED = ("base", "declared", "described", "elements", "envelope", "forms", "proofs", "reading")
"""Files here that speak for no platform."""


def platforms() -> tuple[str, ...]:
    """Every platform with a file here, or a description of its webhooks; in alphabetical order."""
    return tuple(sorted({*_files(), *described.names()}))


def _files() -> set[str]:
    return {m.name for m in pkgutil.iter_modules(__path__) if m.name not in SHARED}


def sender_type(platform: str) -> SenderType:
    """The class that speaks for a platform. Raises UnknownPlatform, and ConfigInvalid where its
    description is wrong."""
    if platform in _files():
        return importlib.import_module(f"{__name__}.{platform}").Sender
    if platform not in described.names():
        raise UnknownPlatform(platform)
    return described.described(platform)
