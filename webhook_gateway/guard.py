"""Who may knock at all: addresses and client certificates of a connection. Pure.

It stands beside a sender's proof, never in its place.
"""

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

__all__ = ["Guard", "Networks", "caller"]

Address = IPv4Address | IPv6Address
FORWARDED_MAX = 32
"""Addresses looked at in X-Forwarded-For."""


class Networks:
    """Some networks; an address is in one of them or not."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Raises ValueError for what is no network."""
        self._networks = tuple(ip_network(text, strict=False) for text in texts)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: Address | None) -> bool:
        """None: an address that is not known is in no network."""
        return address is not None and any(
            address in network
            for network in self._networks
            if isinstance(network, IPv6Network) is isinstance(address, IPv6Address)
        )


def caller(peer: str, forwarded: Sequence[str], proxies: Networks) -> Address | None:
    """Who calls: the peer; where that is a proxy of ours, whom it names, and so on.

    `forwarded`: the values of X-Forwarded-For, in order. What stands before the first address that
    is no proxy of ours was written by that stranger. None: cannot be told.
    """
    address = _address(peer)
    named = [part for value in forwarded for part in value.split(",")][-FORWARDED_MAX:]
    for text in reversed(named):
        if address not in proxies:
            break
        address = _address(text.strip())
    return address


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


class Guard:
    """Of one connection. Both lists may be empty: then nothing is asked."""

    def __init__(self, allow_from: Sequence[str], client_names: Sequence[str]) -> None:
        self._allowed, self._names = Networks(allow_from), frozenset(client_names)

    @property
    def asks_address(self) -> bool:
        return bool(self._allowed)

    @property
    def asks_certificate(self) -> bool:
        return bool(self._names)

    def refuses_address(self, address: Address | None) -> bool:
        return address not in self._allowed

    def refuses_certificate(self, certificate: Mapping[str, Any] | None) -> bool:
        """As ssl gives it: of the client, and verified already. None: it has shown none."""
        if not certificate:
            return True
        if "*" in self._names:
            return False
        names = {v for k, v in certificate.get("subjectAltName", ()) if k == "DNS"}
        for relative in certificate.get("subject", ()):
            names |= {value for kind, value in relative if kind == "commonName"}
        return names.isdisjoint(self._names)
