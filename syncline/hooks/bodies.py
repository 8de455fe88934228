"""How a notice is told: the body of the call, its words, and its signature. Pure."""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from schemas.definitions import Hook
from syncline.hooks.notices import Notice

__all__ = ["body", "signed", "words"]

SECRET_PREFIX = "whsec_"  # noqa: S105 - what stands before every secret


def words(notice: Notice) -> tuple[str, str]:
    """-> (one line, what to do about it)."""
    run = notice.run or "live changes"
    told: Mapping[str, Any] = notice.data
    match notice.type:
        case "records.refused":
            fields = f" ({', '.join(told['fields'])})" if told["fields"] else ""
            count = told["records"]
            what = f"{count:,} record{'' if count == 1 else 's'} refused: {told['code']}{fields}"
            first = f"{run}: {what}"
            second = f"syncline parked list --sync {notice.sync} --code {told['code']}"
        case "run.refused":
            first = f"{notice.run} cannot begin: {told['why']}"
            second = "syncline sync list"
        case "run.stuck" | "run.trouble":
            first = f"{run} is {'stuck' if notice.type == 'run.stuck' else 'in trouble'}"
            first += f": {told['why']}"
            second = f"syncline run show {notice.run}"
        case _:
            by = f" by {told['who']}" if told.get("who") else ""
            first = f"{run}: {told['before']} → {told['after']}{by} ({told['why']})"
            second = f"syncline run show {notice.run}"
    return f"{notice.sync}: {first}", second


def body(hook: Hook, notice: Notice) -> bytes:
    """JSON, as the hook's `form` says."""
    line, act = words(notice)
    match hook.form:
        case "chat":
            made: dict[str, Any] = {"text": f"{line}\n`{act}`"}
        case "email":
            when = datetime.fromtimestamp(notice.at_ms / 1000, UTC).isoformat(timespec="seconds")
            made = {
                "from": hook.sender, "to": hook.to, "subject": f"[Syncline] {line}"[:200],
                "text": f"{line}\n\n{when}\n\n{act}\n",
            }  # fmt: skip
        case "event":
            moment = datetime.fromtimestamp(notice.at_ms / 1000, UTC)
            made = {
                "type": notice.type,
                "timestamp": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "data": {"sync": notice.sync, "run": notice.run, "text": line, **notice.data},
            }
    return json.dumps(made, ensure_ascii=False, separators=(",", ":")).encode()


def signed(secret: SecretStr, message_id: str, at_s: int, content: bytes) -> dict[str, str]:
    """Headers of Standard Webhooks 1.0, symmetric. Raises ValueError for a secret that is none."""
    text = secret.get_secret_value().removeprefix(SECRET_PREFIX)
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("the secret is no base64: whsec_…") from None
    mac = hmac.new(key, f"{message_id}.{at_s}.".encode() + content, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }
