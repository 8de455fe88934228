"""A described platform's failures to our outcomes, by its error table. Pure."""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from connectors.base import PlatformError
from connectors.declared_forms import MISSING, as_text, holds, look
from connectors.declared_model import ErrorTable, Rule
from connectors.outcome import Accepted, Halted, Outcome, Parked, Retry, Throttled, TooLarge
from ratelimits.headers import retry_after_s

__all__ = ["outcome_of", "rule_of", "there_already"]

WORDS_MAX = 300


def rule_of(table: ErrorTable, error: PlatformError) -> Rule | None:
    """The first rule that fits."""
    return next((rule for rule in table.rules if _fits(rule, table, error)), None)


def outcome_of(table: ErrorTable, error: PlatformError) -> Outcome:
    """What the table does not know parks and does not loop."""
    rule = rule_of(table, error)
    words = error.body if isinstance(error.body, str) else _at(error.body, table.words)
    code, words = _at(error.body, table.code) or str(error.status), words[:WORDS_MAX]
    match rule.is_ if rule else _usual(error.status):
        case "throttled":
            return Throttled(_wait_s(rule, error.headers), rule.window if rule else "")
        case "halted":
            return Halted(f"{code}: {words}")
        case "too_large":
            return TooLarge(words)
        case "accepted":
            return Accepted()
        case "retry" | "renew":
            waits = rule is not None and bool(rule.wait_s or rule.wait_header)
            wait_s = _wait_s(rule, error.headers) if waits else None
            return Retry(f"{error} {code}", wait_s or 0.0)
        case _:
            # JSON:API points: /data/attributes/email
            return Parked(code, words, _at(error.body, table.field).rpartition("/")[2])


def there_already(table: ErrorTable, error: PlatformError) -> str:
    """Id of the object that the platform says is there; empty where it does not say so."""
    rule = rule_of(table, error)
    if rule is None or rule.is_ != "exists":
        return ""
    found = _at(error.body, rule.id)
    if rule.pattern:
        hit = re.search(rule.pattern, found)
        return hit[1] if hit else ""
    return found


def _at(body: Any, path: str) -> str:
    return as_text(look(body, path)) if path else ""


def _fits(rule: Rule, table: ErrorTable, error: PlatformError) -> bool:
    if rule.status is not None and error.status not in _all(rule.status):
        return False
    if rule.code is not None:
        code = look(error.body, table.code) if table.code else MISSING
        if code is MISSING or as_text(code) not in map(as_text, _all(rule.code)):
            return False
    words = error.body if isinstance(error.body, str) else _at(error.body, table.words)
    if rule.says.lower() not in words.lower():
        return False
    return holds(error.body, rule.when)


def _all(said: Any) -> list[Any]:
    return said if isinstance(said, list) else [said]


def _usual(status: int) -> str:
    """A success without its marks comes from something in between, or was none."""
    match status:
        case 401 | 403:
            return "halted"
        case 413:
            return "too_large"
        case 429:
            return "throttled"
        case s if s < 300 or s in (408, 425) or s >= 500:
            return "retry"
        case _:
            return "parked"


def _wait_s(rule: Rule | None, headers: Mapping[str, str]) -> float | None:
    """Seconds; None where the answer does not say."""
    now_s = _date_s(headers)
    if rule is not None and rule.wait_s is not None:
        return rule.wait_s
    text = headers.get((rule.wait_header if rule else "") or "retry-after", "")
    form = rule.wait_form if rule else "seconds"
    if form == "seconds":
        return retry_after_s(text, now_s or 0.0) if now_s or ":" not in text else None
    try:
        number = float(text)
    except ValueError:
        return None
    if form == "milliseconds":
        return max(0.0, number / 1000)
    return max(0.0, number - now_s) if now_s else None


def _date_s(headers: Mapping[str, str]) -> float | None:
    """The platform's own clock, so that ours need not agree with it."""
    try:
        return parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (TypeError, ValueError):
        return None
