"""How a request proves itself: each platform's recipe as data, read by the same few functions.

A recipe's `check` returns where one of the secrets made the proof, else raises Refused; it raises
nothing else, whatever stands in headers, address and body. Secrets are compared in constant time.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal
from urllib.parse import parse_qsl, unquote

from pydantic import BaseModel, Field

from webhook_gateway.senders.base import Refused, Request, matches
from webhook_gateway.senders.reading import milliseconds

__all__ = ["STANDARD_WEBHOOKS", "AnyProof", "SharedSecret", "Signature", "url_secrets"]

GIVEN_MAX = 16
"""Signatures, or values of the query, looked at in one request."""

DIGESTS = {"sha1": hashlib.sha1, "sha256": hashlib.sha256, "sha512": hashlib.sha512}
PLACE = re.compile(r"\{(body|timestamp|url|method|header:[A-Za-z0-9-]+)\}")


class Signature(BaseModel, frozen=True, extra="forbid"):
    """A keyed hash (HMAC) over the body, alone or with something beside it."""

    kind: Literal["signature"] = "signature"
    header: str = Field(description="Header that holds the signature.")
    hash: Literal["sha1", "sha256", "sha512"] = Field(default="sha256", description="Of the HMAC.")
    encoding: Literal["hex", "base64"] = Field(default="hex", description="Of the signature.")
    signed: str = Field(
        default="{body}",
        description="What is signed: text with {body}, {timestamp}, {url}, {method} or "
        "{header:NAME} in it.",
    )
    prefix: str = Field(
        default="", description="What stands before the signature in its header: `sha1=`, `v1,`."
    )
    separator: str = Field(
        default="",
        description="Between several signatures in the header, during a rotation; any one is good.",
    )
    timestamp: str = Field(
        default="",
        description="Header with the time that is signed; or a prefix such as `t=`, where the time "
        "stands among the signatures.",
    )
    window_s: int = Field(
        default=300, ge=1, description="A signed time further away than this is refused."
    )
    key: Literal["text", "base64"] = Field(
        default="text",
        description="The secret as it is; or base64, with or without `whsec_` before it.",
    )

    def check(self, request: Request, secrets: Sequence[bytes]) -> None:
        """Raises Refused."""
        header = request.headers.get(self.header)
        if header is None:
            raise Refused(401, "no signature")
        words = [w.strip() for w in header.split(self.separator)] if self.separator else [header]
        if len(words) > GIVEN_MAX:
            raise Refused(401, "too many signatures")
        stamp = self._stamp(request, words)
        signed = self.text(request, stamp)
        good = False
        for word in words:
            if word.startswith(self.prefix):
                good |= matches(
                    self._shape(word[len(self.prefix) :]),
                    (self.sign(key, signed) for key in self._keys(secrets)),
                )
        if not good:
            raise Refused(401, "signature wrong")

    def headers(self) -> list[str]:
        """Headers that the check looks at, in lower case."""
        signed = [place[1][7:] for place in PLACE.finditer(self.signed) if ":" in place[1]]
        stamp = [self.timestamp] if self.timestamp and not self.timestamp.endswith("=") else []
        return [name.lower() for name in (self.header, *stamp, *signed)]

    def text(self, request: Request, stamp: str = "") -> bytes:
        """What the sender has signed."""
        if self.signed == "{body}":
            return request.body
        pieces: list[bytes] = []
        end = 0
        for place in PLACE.finditer(self.signed):
            pieces.append(self.signed[end : place.start()].encode())
            end = place.end()
            match place[1]:
                case "body":
                    pieces.append(request.body)
                case "timestamp":
                    pieces.append(_bytes(stamp))
                case "url":
                    pieces.append(_bytes(request.url))
                case "method":
                    pieces.append(_bytes(request.method))
                case header:
                    pieces.append(_bytes(request.headers.get(header[7:], "")))
        return b"".join([*pieces, self.signed[end:].encode()])

    def sign(self, key: bytes, signed: bytes) -> bytes:
        """The signature as it stands in the header."""
        digest = hmac.digest(key, signed, self.hash)
        return base64.b64encode(digest) if self.encoding == "base64" else digest.hex().encode()

    def _stamp(self, request: Request, words: Sequence[str]) -> str:
        """The signed time as it was written. Raises Refused."""
        if not self.timestamp:
            return ""
        if self.timestamp.endswith("="):
            size = len(self.timestamp)
            stamp = next((w[size:] for w in words if w.startswith(self.timestamp)), None)
        else:
            stamp = request.headers.get(self.timestamp)
        signed_ms = None if stamp is None else milliseconds(stamp)
        if stamp is None or signed_ms is None:
            raise Refused(401, "timestamp missing")
        if abs(request.received_ms - signed_ms) > self.window_s * 1000:
            raise Refused(401, "timestamp outside the window")
        return stamp

    def _shape(self, given: str) -> str:
        """Hex is the same in either case."""
        return given.lower() if self.encoding == "hex" and given.isascii() else given

    def _keys(self, secrets: Sequence[bytes]) -> Iterator[bytes]:
        for secret in secrets:
            yield secret
            if self.key == "base64" and (key := _decoded(secret.removeprefix(b"whsec_"))):
                yield key


class SharedSecret(BaseModel, frozen=True, extra="forbid"):
    """A platform that signs nothing: the secret itself comes along, in a header or the address."""

    kind: Literal["shared_secret"] = "shared_secret"
    header: str = Field(
        default="authorization",
        description="Header that holds the secret: as it is, as `Bearer SECRET`, or as HTTP Basic "
        "with the secret as `user:password` or as the password. Empty: not in a header.",
    )
    address: bool = Field(
        default=True,
        description="The secret may stand in the address: after the connection's name, or as a "
        "value of the query.",
    )

    def check(self, request: Request, secrets: Sequence[bytes]) -> None:
        """Raises Refused."""
        given = list(url_secrets(request)) if self.address else []
        if self.header and (header := request.headers.get(self.header)) is not None:
            given += _credentials(header)
        if not given:
            raise Refused(401, "no secret")
        good = False
        for candidate in given:
            good |= matches(candidate, secrets)
        if not good:
            raise Refused(401, "secret wrong")


AnyProof = Annotated[Signature | SharedSecret, Field(discriminator="kind")]

# https://github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md, version 1.0
STANDARD_WEBHOOKS = Signature(
    header="webhook-signature",
    encoding="base64",
    signed="{header:webhook-id}.{timestamp}.{body}",
    prefix="v1,",
    separator=" ",
    timestamp="webhook-timestamp",
    key="base64",
)


def url_secrets(request: Request) -> Iterator[str]:
    """What stands in the address where a secret may stand: the end of the path, the query."""
    if request.rest:
        yield request.rest
        if "%" in request.rest:
            yield unquote(request.rest, errors="surrogateescape")
    query = request.target.partition("?")[2]
    if query:
        yield query
        try:
            pairs = parse_qsl(query, errors="surrogateescape", max_num_fields=GIVEN_MAX)
        except ValueError:  # more of them than anybody needs
            return
        for _, value in pairs:
            yield value


def _credentials(header: str) -> Iterator[str]:
    yield header
    scheme, _, rest = header.partition(" ")
    rest = rest.strip()
    match scheme.lower():
        case "bearer":
            yield rest
        case "basic":
            pair = _decoded(rest.encode("utf-8", "surrogateescape"))
            if pair is not None:
                text = pair.decode("utf-8", "surrogateescape")
                yield text
                user, colon, password = text.partition(":")
                yield password if colon and password else user
        case _:
            pass


def _decoded(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
