"""Writes mandrill.json: posts that django-anymail takes for Mandrill's own.

    pip install django-anymail && python mandrill.py > mandrill.json

Mandrill publishes no signing code. Anymail's check has stood in front of Mandrill's real posts for
years, and nobody here wrote it: the signature below is written only once anymail has taken it.
"""

import base64
import hmac
import json
from importlib.metadata import version
from typing import Any
from urllib.parse import urlencode

import django
from anymail.exceptions import AnymailWebhookValidationFailure
from anymail.webhooks.mandrill import MandrillCombinedWebhookView
from django.conf import settings
from django.test import RequestFactory

KEY = "gEFXMYX4aBIqO1w7Qv-key"
URL = "https://user:pass@hooks.example.com/hooks/mandrill?a=1&b=%20"
EVENT = {
    "event": "click", "ts": 1_764_000_000, "_id": "exampleaaaa1", "url": "http://example.com/a+b",
    "msg": {"email": "a+b@example.com", "subject": "50% off: Größe ∞ 😀", "metadata": []},
}  # fmt: skip
FIELDS: dict[str, list[tuple[str, str]]] = {
    "one event": [("mandrill_events", json.dumps([EVENT]).replace("/", "\\/"))],
    "unescaped": [
        ("mandrill_events", json.dumps([EVENT, EVENT | {"_id": "2"}], ensure_ascii=False))
    ],
    "nothing": [("mandrill_events", "[]")],
    "other fields": [("z", "last"), ("mandrill_events", json.dumps([EVENT])), ("a", "")],
}


def takes(body: str, signature: str) -> bool:
    request = RequestFactory().post(
        "/", body, content_type="application/x-www-form-urlencoded",
        headers={"X-Mandrill-Signature": signature},
    )  # fmt: skip
    view = MandrillCombinedWebhookView(webhook_key=KEY, webhook_url=URL)
    try:
        view.validate_request(request)
    except AnymailWebhookValidationFailure:
        return False
    return True


def signature(fields: list[tuple[str, str]]) -> str:
    text = URL + "".join(name + value for name, value in sorted(fields))
    return base64.b64encode(hmac.digest(KEY.encode(), text.encode(), "sha1")).decode()


def main() -> None:
    settings.configure(ALLOWED_HOSTS=["*"])
    django.setup()
    signed: list[dict[str, Any]] = []
    for name, fields in FIELDS.items():
        body, proof = urlencode(fields), signature(fields)
        assert takes(body, proof)
        assert not takes(body + "&b=c", proof)
        events = len(json.loads(dict(fields)["mandrill_events"]))
        signed.append({"name": name, "body": body, "signature": proof, "events": events})
    told = {"package": f"django-anymail {version('django-anymail')}", "url": URL, "secret": KEY}
    print(json.dumps(told | {"signed": signed}, indent=1))


if __name__ == "__main__":
    main()
