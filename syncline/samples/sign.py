"""How each platform proves a webhook, from the sending side.

Written from the platforms' pages, not from our senders: a mistake in one shows against the other.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl

import msgspec

__all__ = ["Call", "signed"]


@dataclass(frozen=True)
class Call:
    """A POST before it is sent. `public_url` is the address as the platform knows it."""

    url: str
    public_url: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def with_headers(self, **headers: str) -> "Call":
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, headers={**self.headers, **more})

    def below(self, rest: str) -> "Call":
        """The secret stands in the address."""
        return replace(self, url=f"{self.url}/{rest}", public_url=f"{self.public_url}/{rest}")


Options = Mapping[str, Any]
STANDARD = {"kind": "signature", "header": "webhook-signature", "encoding": "base64",
            "signed": "{header:webhook-id}.{timestamp}.{body}", "prefix": "v1,",
            "timestamp": "webhook-timestamp", "key": "base64"}  # fmt: skip
PLACE = re.compile(rb"\{(body|timestamp|url|method|header:[A-Za-z0-9-]+)\}")
Sign = Callable[[Call, str, int, Options], Call]


def _hex(secret: str, text: bytes, name: str = "sha256") -> str:
    return hmac.new(secret.encode(), text, name).hexdigest()


def _base64(secret: bytes, text: bytes, name: str = "sha256") -> str:
    return base64.b64encode(hmac.new(secret, text, name).digest()).decode()


def _hubspot(call: Call, secret: str, now_ms: int, options: Options) -> Call:
    if "v3" in options.get("signatures", ("v3",)):
        text = f"POST{call.public_url}".encode() + call.body + str(now_ms).encode()
        return call.with_headers(
            X_HubSpot_Signature_v3=_base64(secret.encode(), text),
            X_HubSpot_Request_Timestamp=str(now_ms),
        )
    digest = hashlib.sha256(secret.encode() + call.body).hexdigest()
    return call.with_headers(X_HubSpot_Signature=digest, X_HubSpot_Signature_Version="v1")


def _mailchimp(call: Call, secret: str, now_ms: int, _: Options) -> Call:
    stamp = str(now_ms // 1000)
    proof = _hex(secret, f"{stamp}.".encode() + call.body)
    return call.with_headers(X_Mailchimp_Signature=f"t={stamp},v1={proof}")


def _mandrill(call: Call, secret: str, _: int, __: Options) -> Call:
    pairs = sorted(parse_qsl(call.body.decode(), keep_blank_values=True))
    text = call.public_url + "".join(name + value for name, value in pairs)
    return call.with_headers(X_Mandrill_Signature=_base64(secret.encode(), text.encode(), "sha1"))


def _segment(call: Call, secret: str, _: int, __: Options) -> Call:
    """Of a batch the first element alone is signed."""
    text = call.body
    if text.startswith(b"["):
        text = bytes(msgspec.json.decode(text, type=list[msgspec.Raw])[0])
    return call.with_headers(X_Signature=_hex(secret, text, "sha1"))


def _klaviyo(call: Call, secret: str, now_ms: int, _: Options) -> Call:
    stamp = formatdate(now_ms / 1000, usegmt=True)
    hook: Any = msgspec.json.decode(call.body)
    return call.with_headers(
        Klaviyo_Signature=_hex(secret, call.body + stamp.encode()),
        Klaviyo_Timestamp=stamp,
        Klaviyo_Webhook_Id=hook["meta"]["klaviyo_webhook_id"],
    )


def _customerio(call: Call, secret: str, now_ms: int, _: Options) -> Call:
    stamp = str(now_ms // 1000)
    proof = _hex(secret, f"v0:{stamp}:".encode() + call.body)
    return call.with_headers(X_CIO_Timestamp=stamp, X_CIO_Signature=proof)


def _intercom(call: Call, secret: str, _: int, __: Options) -> Call:
    return call.with_headers(X_Hub_Signature="sha1=" + _hex(secret, call.body, "sha1"))


def _generic(call: Call, secret: str, now_ms: int, options: Options) -> Call:
    """As the connection declares it; Standard Webhooks where it declares nothing. A secret that is
    shared stands in the address, where it may, else in its header."""
    declared = options.get("proof", "standard_webhooks")
    recipe: Options = STANDARD if declared == "standard_webhooks" else declared
    if recipe.get("kind") == "shared_secret":
        header = recipe.get("header", "authorization")
        return call if recipe.get("address", True) else call.with_headers(**{header: secret})
    stamp = str(now_ms // 1000)
    headers = {"webhook-id": f"msg_{hashlib.sha256(call.body).hexdigest()[:24]}"}
    places = {b"body": call.body, b"timestamp": stamp.encode(), b"method": b"POST",
              b"url": call.public_url.encode()}  # fmt: skip

    def filled(place: re.Match[bytes]) -> bytes:
        return places.get(place[1]) or headers.get(place[1][7:].decode().lower(), "").encode()

    text = PLACE.sub(filled, recipe.get("signed", "{body}").encode())
    key, name = secret.encode(), recipe.get("hash", "sha256")
    if recipe.get("key") == "base64" and secret.startswith("whsec_"):
        key = base64.b64decode(secret.removeprefix("whsec_") + "==")
    digest = hmac.new(key, text, name).digest()
    hexed = recipe.get("encoding", "hex") == "hex"
    proof = recipe.get("prefix", "") + (
        digest.hex() if hexed else base64.b64encode(digest).decode()
    )
    where = recipe.get("timestamp", "")
    if where.endswith("="):  # the time stands among the signatures
        proof = f"{where}{stamp}{recipe.get('separator', ',')}{proof}"
    elif where:
        headers[where] = stamp
    return call.with_headers(**headers, **{recipe["header"]: proof})


def _bearer(call: Call, secret: str, _: int, __: Options) -> Call:
    return call.with_headers(Authorization=f"Bearer {secret}")


def _authorization(call: Call, secret: str, _: int, __: Options) -> Call:
    return call.with_headers(Authorization=secret)


def _basic(call: Call, secret: str, _: int, __: Options) -> Call:
    """The secret is `user:password`."""
    return call.with_headers(
        Authorization="Basic " + base64.b64encode(secret.encode()).decode(),
    )


def _unsigned(call: Call, _: str, __: int, ___: Options) -> Call:
    """What proves it is the address alone."""
    return call


SIGNERS: Mapping[str, Sign] = {
    "activecampaign": _unsigned,
    "braze": _bearer,
    "customerio": _customerio,
    "generic": _generic,
    "hubspot": _hubspot,
    "intercom": _intercom,
    "iterable": _authorization,
    "klaviyo": _klaviyo,
    "mailchimp": _mailchimp,
    "mandrill": _mandrill,
    "marketo": _unsigned,
    "pipedrive": _basic,
    "salesforce": _unsigned,
    "segment": _segment,
}


def signed(
    platform: str,
    call: Call,
    secret: str,
    now_ms: int,
    options: Options,
    *,
    secret_in_path: bool,
) -> Call:
    """The call with its proof. Raises KeyError for a platform whose proof is not known here."""
    sign = SIGNERS[platform]
    if secret_in_path:
        call = call.below(secret)
    return sign(call, secret, now_ms, options)
