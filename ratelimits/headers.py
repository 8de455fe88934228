"""What an answer says about limits: tokens left, how long to wait, which window was full. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from ratelimits.registry import HeaderRule, Limits, RefusalForm

__all__ = ["Refusal", "refusal", "remaining", "retry_after_s"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A limit said no. `window`: empty where it does not say which one; `wait_s`: None likewise."""

    window: str
    wait_s: float | None


def remaining(rule: HeaderRule, headers: Mapping[str, str]) -> int | None:
    """Tokens left of the rule's window; None where the header is missing or cannot be read."""
    text = headers.get(rule.header)
    if text is None:
        return None
    try:
        if rule.form == "number":
            return int(text)
        parts = dict(part.strip().split("=", 1) for part in text.split(","))
        spent, _, total = parts[rule.key].partition("/")
        return int(total) - int(spent)
    except (ValueError, KeyError):
        return None


def refusal(
    limits: Limits, status: int, headers: Mapping[str, str], body: Any, now_unix_s: float
) -> Refusal | None:
    """Is this answer a refusal by a limit, and by which? Header names in lower case, `body` decoded
    JSON or text. The first form of the registry that fits decides."""
    for form in limits.refusals:
        if form.status == status and _fits(form, body):
            return Refusal(form.window, _wait_s(form, headers, body, now_unix_s))
    return None


def _wait_s(
    form: RefusalForm, headers: Mapping[str, str], body: Any, now_unix_s: float
) -> float | None:
    told_ms = _at(body, form.wait_body_ms) if form.wait_body_ms else None
    if isinstance(told_ms, int | float) and 0 <= told_ms < float("inf"):
        return told_ms / 1000
    return retry_after_s(headers.get(form.wait_header, ""), now_unix_s)


def retry_after_s(text: str, now_unix_s: float) -> float | None:
    """`Retry-After`: seconds, or an HTTP date. None where it is neither, or no time at all."""
    try:
        wait_s = float(text)
    except ValueError:
        try:
            wait_s = max(0.0, parsedate_to_datetime(text).timestamp() - now_unix_s)
        except (TypeError, ValueError, OverflowError):
            return None
    return wait_s if 0 <= wait_s < float("inf") else None


def _fits(form: RefusalForm, body: Any) -> bool:
    if form.json_body is not None and form.json_body != isinstance(body, dict | list):
        return False
    for key, expected in form.where.items():
        value = _at(body, key)
        if not isinstance(value, str) or expected.lower() not in value.lower():
            return False
    return True


def _at(body: Any, path: str) -> Any:
    """`errors.0.code` of a body, of its first element where it is a list; None: there is none."""
    value = body[0] if isinstance(body, list) and body else body
    for part in path.split("."):
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            value = value.get(part) if isinstance(value, dict) else None
    return value
