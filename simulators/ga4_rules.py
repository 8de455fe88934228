"""What the Measurement Protocol takes, as its own pages say, and the validation server's words.

https://developers.google.com/analytics/devguides/collection/protocol/ga4/sending-events#limitations
and /reference#reserved_names (read 2026-08). A finding is (fieldPath, description, validationCode).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

Finding = tuple[str, str, str]
EVENTS_MAX, PARAMS_MAX, PROPERTIES_MAX = 25, 25, 25
BODY_BYTES_MAX = 130_000
OLDEST_MS = 3 * 24 * 60 * 60 * 1000
WORD = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,39}", re.ASCII)
TAKEN = re.compile(r"(_|firebase_|ga_|google_|gtag\.)")
OWN_EVENTS = {
    *("app_remove", "app_store_refund", "app_store_subscription_cancel"),
    *("app_store_subscription_renew", "click", "error", "file_download", "first_open"),
    *("first_visit", "form_start", "form_submit", "in_app_purchase", "page_view", "scroll"),
    *("session_start", "user_engagement", "view_complete", "video_progress", "video_start"),
    "view_search_results",
}
OWN_PROPERTIES = {
    *("first_open_time", "first_visit_time", "last_deep_link_referrer", "user_id"),
    "first_open_after_install",
}
LENGTHS = {"page_title": 300, "page_referrer": 420, "page_location": 1000}


class Event(msgspec.Struct):
    name: str = ""
    params: dict[str, Any] = {}
    timestamp_micros: int | None = None


class Payload(msgspec.Struct):
    client_id: str = ""
    user_id: str = ""
    timestamp_micros: int | None = None
    user_properties: dict[str, dict[str, Any]] = {}
    consent: dict[str, str] = {}
    events: list[Event] = []


def payload_wrong(payload: Payload, size: int) -> list[Finding]:
    """Of the request as a whole."""
    return list(_payload(payload, size))


def event_wrong(event: Event, at_ms: int, now_ms: int) -> list[Finding]:
    """Of one event that happened at `at_ms`."""
    return list(_event(event, at_ms, now_ms))


def _payload(payload: Payload, size: int) -> Iterator[Finding]:
    if size >= BODY_BYTES_MAX:
        yield "", "The request body must be smaller than 130kB.", "VALUE_OUT_OF_BOUNDS"
    if not payload.client_id:
        yield "client_id", "Measurement requires a client_id.", "VALUE_REQUIRED"
    if len(payload.events) > EVENTS_MAX:
        words = "Requests can have a maximum of 25 events."
        yield "events", words, "EXCEEDED_MAX_ENTITIES"
    if len(payload.user_properties) > PROPERTIES_MAX:
        words = "Requests can have a maximum of 25 user properties."
        yield "user_properties", words, "EXCEEDED_MAX_ENTITIES"
    for name, held in payload.user_properties.items():
        where = f"user_properties.{name}"
        if name in OWN_PROPERTIES or TAKEN.match(name):
            yield where, f"User property [{name}] has a reserved name.", "NAME_RESERVED"
        elif len(name) > 24 or not WORD.fullmatch(name):
            yield where, f"User property [{name}] has an invalid name.", "NAME_INVALID"
        if len(str(held.get("value", ""))) > 36:
            yield (
                where,
                "User property values must be 36 characters at most.",
                "VALUE_OUT_OF_BOUNDS",
            )
    for kind, value in payload.consent.items():
        if kind not in ("ad_user_data", "ad_personalization") or value not in ("GRANTED", "DENIED"):
            yield f"consent.{kind}", "Consent must be GRANTED or DENIED.", "VALUE_INVALID"


def _event(event: Event, at_ms: int, now_ms: int) -> Iterator[Finding]:
    name = event.name
    if not name:
        yield "events", "Event at index: [0] has no name.", "VALUE_REQUIRED"
    elif name in OWN_EVENTS or TAKEN.match(name):
        yield "events", f"Event [{name}] has a reserved name.", "NAME_RESERVED"
    elif not WORD.fullmatch(name):
        yield "events", f"Event [{name}] has an invalid name.", "NAME_INVALID"
    if at_ms < now_ms - OLDEST_MS:
        words = "Timestamps must be within the last 72 hours."
        yield "timestamp_micros", words, "VALUE_OUT_OF_BOUNDS"
    if len(event.params) > PARAMS_MAX:
        yield "events.params", "Events can have a maximum of 25 params.", "EXCEEDED_MAX_ENTITIES"
    yield from _params(event.params)


def _params(params: Mapping[str, Any]) -> Iterator[Finding]:
    for name, value in params.items():
        where = f"events.params.{name}"
        if TAKEN.match(name):
            yield where, f"Param [{name}] has a reserved prefix.", "NAME_RESERVED"
        elif not WORD.fullmatch(name):
            yield where, f"Param [{name}] has an invalid name.", "NAME_INVALID"
        if name == "items":
            whole = isinstance(value, list) and all(isinstance(item, dict) for item in value)
            if not whole or len(value) > 200:
                yield where, "Items must be a list of at most 200 objects.", "VALUE_INVALID"
        elif not isinstance(value, str | int | float):
            yield where, "Params must be texts or numbers.", "VALUE_INVALID"
        elif len(str(value)) > LENGTHS.get(name, 100):
            yield where, f"Param [{name}] is too long.", "VALUE_OUT_OF_BOUNDS"
