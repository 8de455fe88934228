"""Who may knock: addresses, proxies in front of us, names in a client's certificate."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.definitions import Webhook
from webhook_gateway.guard import Guard, Networks, caller

PROXIES = Networks(["10.0.0.0/8", "2001:db8::/32"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "who"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.9"], "192.0.2.1"),  # a stranger's word
        ("10.0.0.1", ["198.51.100.9"], "198.51.100.9"),
        ("10.0.0.1", ["203.0.113.5, 198.51.100.9"], "198.51.100.9"),  # the first may be forged
        ("10.0.0.1", ["203.0.113.5", "198.51.100.9, 10.0.0.2"], "198.51.100.9"),
        ("::ffff:10.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["nonsense"], None),
        ("10.0.0.1", ["192.0.2.1, nonsense"], None),
        ("", ["192.0.2.1"], None),
        ("fe80::1%eth0", [], "fe80::1"),
    ],
)
def test_who_calls(peer: str, forwarded: list[str], who: str | None) -> None:
    assert caller(peer, forwarded, PROXIES) == (who and ip_address(who))


@given(peer=st.text(max_size=20), forwarded=st.lists(st.text(max_size=60), max_size=5))
def test_nothing_that_stands_there_raises(peer: str, forwarded: list[str]) -> None:
    caller(peer, forwarded, PROXIES)
    caller("10.0.0.1", forwarded, PROXIES)


def test_without_proxies_the_peer_it_is() -> None:
    assert caller("10.0.0.1", ["192.0.2.1"], Networks(())) == ip_address("10.0.0.1")


def test_addresses() -> None:
    guard = Guard(["192.0.2.0/24", "2001:db8::1/128"], [])
    assert guard.asks_address
    assert not guard.asks_certificate
    assert not guard.refuses_address(ip_address("192.0.2.77"))
    assert not guard.refuses_address(ip_address("2001:db8::1"))
    assert guard.refuses_address(ip_address("192.0.3.1"))
    assert guard.refuses_address(ip_address("2001:db8::2"))
    assert guard.refuses_address(None)


def test_certificates() -> None:
    certificate = {
        "subject": ((("organizationName", "Example"),), (("commonName", "hooks.example.com"),)),
        "subjectAltName": (("DNS", "a.example.com"), ("URI", "b.example.com")),
    }
    for names, refused in (
        (["hooks.example.com"], False),
        (["a.example.com", "other"], False),
        (["*"], False),
        (["b.example.com"], True),  # no DNS name
        (["Example"], True),
        (["hooks.example.com.evil"], True),
    ):
        assert Guard([], names).refuses_certificate(certificate) is refused
    for nothing in (None, {}):
        assert Guard([], ["*"]).refuses_certificate(nothing)


def test_a_definition_takes_networks_and_nothing_else() -> None:
    webhook = Webhook(secret="env:X", allow_from=["192.0.2.1", "10.1.2.3/8"])
    assert webhook.allow_from == ["192.0.2.1/32", "10.0.0.0/8"]
    with pytest.raises(ValueError, match="nonsense"):
        Webhook(secret="env:X", allow_from=["nonsense"])
