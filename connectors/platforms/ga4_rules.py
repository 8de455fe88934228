"""What Google Analytics would drop or spoil without a word: the Measurement Protocol's own rules.

https://developers.google.com/analytics/devguides/collection/protocol/ga4/sending-events, section
"Limitations"; /reference, "Reserved names"; https://support.google.com/analytics/answer/13316687
(2026-08). Names and lists change; a rule that has gone is a refusal too many here, seen and mended,
where a rule too few is an event lost.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from connectors.outcome import Parked

__all__ = ["BODY_BYTES_MAX", "EVENTS_MAX", "wrong"]

EVENTS_MAX = 25
BODY_BYTES_MAX = 130_000
PARAMS_MAX, PROPERTIES_MAX, ITEMS_MAX, ITEM_CUSTOM_MAX = 25, 25, 200, 10
BACK_MS = 72 * 3_600_000
AHEAD_MS = 300_000
"""Own bound: clocks differ, but nothing is sent before it has happened."""
USER_ID_CHARS = 256
NAME_CHARS, PROPERTY_CHARS, PROPERTY_VALUE_CHARS = 40, 24, 36
VALUE_CHARS, VALUE_CHARS_360 = 100, 500
LONGER = {"page_title": 300, "page_referrer": 420, "page_location": 1_000}


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
PREFIXES = ("_", "firebase_", "ga_", "google_", "gtag.")
EVENTS = _set(
    "app_remove app_store_refund app_store_subscription_cancel app_store_subscription_renew click "
    "error file_download first_open first_visit form_start form_submit in_app_purchase page_view "
    "scroll session_start user_engagement view_complete video_progress video_start "
    "view_search_results"
)
EVENTS_APP = _set(
    "ad_activeview ad_click ad_exposure ad_impression ad_query ad_reward adunit_exposure "
    "app_background app_clear_data app_exception app_remove app_store_refund "
    "app_store_subscription_cancel app_store_subscription_convert app_store_subscription_renew "
    "app_update app_upgrade dynamic_link_app_open dynamic_link_app_update dynamic_link_first_open "
    "error firebase_campaign first_open first_visit in_app_purchase notification_dismiss "
    "notification_foreground notification_open notification_receive os_update screen_view "
    "session_start session_start_with_rollout user_engagement"
)
PROPERTIES = _set(
    "first_open_time first_visit_time last_deep_link_referrer user_id first_open_after_install"
)
ITEM = _set(
    "item_id item_name affiliation coupon creative_name creative_slot currency discount index "
    "item_brand item_category item_category2 item_category3 item_category4 item_category5 "
    "item_list_id item_list_name item_variant location_id price promotion_id promotion_name "
    "quantity"
)
CONSENT = frozenset({"ad_user_data", "ad_personalization"})


def wrong(body: Mapping[str, Any], now_ms: int, *, app: bool, long: bool) -> Parked | None:
    """Why a body with one event would be in vain; None: by the published rules it is right. Pure.

    `stray` in it are fields that have no place in a body. `app`: of an app's stream, else of a web
    stream. `long`: a 360 property.
    """
    return next(_all(body, now_ms, app, long), None)


def _all(body: Mapping[str, Any], now_ms: int, app: bool, long: bool) -> Iterator[Parked]:
    (event,) = body["events"]
    yield from _around(body, app)
    yield from _name("name", event.get("name", ""), NAME_CHARS, EVENTS_APP if app else EVENTS)
    yield from _time(event.get("timestamp_micros"), now_ms)
    yield from _params(event["params"], VALUE_CHARS_360 if long else VALUE_CHARS)
    yield from _properties(body.get("user_properties", {}))
    for name, value in body.get("consent", {}).items():
        if name not in CONSENT or value not in ("GRANTED", "DENIED"):
            yield Parked("consent", "ad_user_data and ad_personalization are GRANTED or DENIED",
                         f"consent.{name}")  # fmt: skip


def _around(body: Mapping[str, Any], app: bool) -> Iterator[Parked]:
    who, other = ("app_instance_id", "client_id") if app else ("client_id", "app_instance_id")
    if not body.get(who):
        yield Parked("missing", f"events of this stream have a {who}", who)
    if body.get(other):
        yield Parked("not_here", f"events of this stream have a {who}, no {other}", other)
    if len(body.get("user_id", "")) > USER_ID_CHARS:
        yield Parked("too_long", f"at most {USER_ID_CHARS} characters", "user_id")
    for name in body.get("stray", ()):
        yield Parked("not_here", "an event has name, params.…, user_properties.…, consent.…", name)


def _name(field: str, name: Any, chars: int, reserved: frozenset[str]) -> Iterator[Parked]:
    if not isinstance(name, str) or not name:
        yield Parked("missing", "an event has a name", field)
    elif len(name) > chars:
        yield Parked("name_too_long", f"a name has at most {chars} characters", field)
    elif name in reserved or name.startswith(PREFIXES):
        yield Parked("name_reserved", "this name belongs to Google", field)
    elif not NAME.fullmatch(name):
        yield Parked("name_invalid", "letters, digits and _, a letter first", field)


def _time(micros: int | None, now_ms: int) -> Iterator[Parked]:
    if micros is None:
        return
    at_ms = micros // 1000
    if at_ms < now_ms - BACK_MS:
        yield Parked("too_old", "events are taken for 72 hours after they happened")
    elif at_ms > now_ms + AHEAD_MS:
        yield Parked("in_future", "it has not happened yet")


def _params(params: Mapping[str, Any], chars: int) -> Iterator[Parked]:
    if len(params) > PARAMS_MAX:
        yield Parked("too_many", f"an event has at most {PARAMS_MAX} parameters")
    for name, value in params.items():
        field = f"params.{name}"
        yield from _name(field, name, NAME_CHARS, frozenset())
        if name == "items":
            yield from _items(value, chars)
        else:
            yield from _value(field, value, LONGER.get(name, chars))


def _items(items: Any, chars: int) -> Iterator[Parked]:
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        yield Parked("value_invalid", "items are a list of objects", "params.items")
        return
    if len(items) > ITEMS_MAX:
        yield Parked("too_many", f"an event has at most {ITEMS_MAX} items", "params.items")
    for item in items:
        if len(item.keys() - ITEM) > ITEM_CUSTOM_MAX:
            words = f"an item has at most {ITEM_CUSTOM_MAX} parameters of its own"
            yield Parked("too_many", words, "params.items")
        for value in item.values():
            yield from _value("params.items", value, chars)


def _properties(properties: Mapping[str, Any]) -> Iterator[Parked]:
    if len(properties) > PROPERTIES_MAX:
        yield Parked("too_many", f"a request has at most {PROPERTIES_MAX} user properties")
    for name, held in properties.items():
        field = f"user_properties.{name}"
        yield from _name(field, name, PROPERTY_CHARS, PROPERTIES)
        yield from _value(field, held["value"], PROPERTY_VALUE_CHARS)


def _value(field: str, value: Any, chars: int) -> Iterator[Parked]:
    if not isinstance(value, str | int | float):
        yield Parked("value_invalid", "a value is a text or a number", field)
    elif isinstance(value, str) and len(value) > chars:
        yield Parked("value_too_long", f"a value has at most {chars} characters", field)
