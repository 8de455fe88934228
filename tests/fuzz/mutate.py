"""Bodies and requests broken in the ways that break parsers. Seeded: a round can be run again."""

import os
import random
import time
from collections.abc import Iterator

__all__ = ["UNSIGNABLE", "mutated", "rounds"]

UNSIGNABLE = (ValueError, LookupError, TypeError, RecursionError)
"""What a signer of the tests raises where it needs a body that can be read."""

TOKENS = (
    b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\xbd", b"\\ud83d", b"\\u0000", b'"', b"\\",
    b"[", b"]", b"{", b"}", b",", b":", b"null", b"true", b"-0", b"1e999", b"9" * 400, b"0.1e-7",
    b"<", b">", b"</", b"/>", b"&amp;", b"&#0;", b"&#x110000;", b"<![CDATA[", b"]]>", b"<!--",
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"<?xml version='1.0' encoding='utf-16'?>",
    b"xmlns=", b"xsi:nil='true'", b"%", b"%00", b"%zz", b"%F0%9F", b"&", b"=", b"+", b";", b"[]",
    b"[a][b]",
    b"[" * 2_000, b'{"a":' * 2_000, b"<a>" * 2_000, b"&a=b" * 2_000, b"x" * 70_000, b" " * 5_000,
    b"\r\n", b"\r\n\r\n", b"\n", b"\t", b"$", b"\xc3\xa9",
)  # fmt: skip
KEYS = (
    b'"objectId"', b'"id"', b'"type"', b'"events"', b'"data"', b'"meta"', b'"timestamp"',
    b'"event"', b'"subscriptionType"', b"Notification", b"SessionId", b"OrganizationId", b"sObject",
    b"mandrill_events", b"contact[id]", b"data[merges]",
)  # fmt: skip


def mutated(chance: random.Random, data: bytes, other: bytes = b"") -> bytes:
    """One to eight changes. `other`: something to take pieces from."""
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        at = chance.randrange(len(data) + 1)
        to = min(len(data), at + chance.choice((0, 1, 2, 8, 64, 1_000)))
        match chance.randrange(9):
            case 0 if data:  # another byte
                n = chance.randrange(len(data))
                data = data[:n] + bytes([chance.randrange(256)]) + data[n + 1 :]
            case 1:  # left out
                data = data[:at] + data[to:]
            case 2:  # twice
                data = data[:to] + data[at:]
            case 3:  # put in
                data = data[:at] + chance.choice(TOKENS) + data[at:]
            case 4:  # in place of something
                data = data[:at] + chance.choice(TOKENS) + data[to:]
            case 5:  # cut off
                data = data[:at]
            case 6:  # a piece of something else
                start = chance.randrange(len(other) + 1)
                data = data[:at] + other[start : start + chance.randrange(200)] + data[at:]
            case 7:  # a key that means something, elsewhere
                data = data.replace(chance.choice(KEYS), chance.choice(KEYS), chance.randrange(3))
            case _:  # many times
                data = data[:at] + data[at:to] * chance.randrange(50) + data[to:]
    return data


def rounds(seconds: float) -> Iterator[tuple[str, random.Random]]:
    """Rounds by name until the time is up, at least one; `FUZZ=0:17` gives that one alone."""
    if asked := os.environ.get("FUZZ"):
        yield asked, random.Random(asked)
        return
    seed = os.environ.get("FUZZ_SEED", "0")
    deadline_s = time.monotonic() + seconds
    number = 0
    while number == 0 or time.monotonic() < deadline_s:
        yield f"{seed}:{number}", random.Random(f"{seed}:{number}")
        number += 1
