"""Properties, requests and answers of the simulated portal, in HubSpot's shapes.

https://developers.hubspot.com/docs/api-reference/crm-contacts-v3/guide and, for errors,
https://developers.hubspot.com/docs/api-reference/error-handling
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from simulators.store import Obj

STAGES = (
    "subscriber",
    "lead",
    "marketingqualifiedlead",
    "salesqualifiedlead",
    "opportunity",
    "customer",
    "evangelist",
    "other",
)
SOURCES = (
    "ORGANIC_SEARCH",
    "PAID_SEARCH",
    "EMAIL_MARKETING",
    "SOCIAL_MEDIA",
    "REFERRALS",
    "OTHER_CAMPAIGNS",
    "DIRECT_TRAFFIC",
    "OFFLINE",
    "PAID_SOCIAL",
)
STAMPS = {
    "contacts": "lastmodifieddate", "companies": "hs_lastmodifieddate",
    "deals": "hs_lastmodifieddate",
}  # fmt: skip
STEMS = {"contact": "contacts", "compan": "companies", "deal": "deals"}
OWN = ("createdate", "hs_object_id", *STAMPS.values())  # HubSpot's own: no caller may write them
DEFAULT_PROPERTIES = {
    "contacts": ("email", "firstname", "lastname"), "companies": ("name", "domain"),
    "deals": ("dealname", "amount", "dealstage", "closedate", "pipeline"),
}  # fmt: skip
DEAL_STAGES = (
    "appointmentscheduled", "qualifiedtobuy", "presentationscheduled", "decisionmakerboughtin",
    "contractsent", "closedwon", "closedlost",
)  # fmt: skip
PRIMARY = frozenset({1, 5})
"""Association types that say "primary company"."""
ASSOCIATIONS = {
    ("contacts", "companies"): (1, 279),
    ("deals", "companies"): (5, 341),
    ("deals", "contacts"): (3,),
}
"""Types that HubSpot defines itself, of the pairs that are here."""
ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")  # what the portal takes for an address: very little


class Property(msgspec.Struct, rename="camel"):
    """A contact property, in the shape of the properties API."""

    name: str
    label: str = ""
    type: str = "string"
    field_type: str = "text"
    group_name: str = "contactinformation"
    has_unique_value: bool = False
    options: list[dict[str, str]] = []

    def takes(self, text: str) -> bool:
        return any(option["value"] == text for option in self.options)


class Input(msgspec.Struct):
    id: str | int = ""
    idProperty: str | None = None  # noqa: N815 - the platform's name
    properties: dict[str, Any] = {}
    objectWriteTraceId: str | None = None  # noqa: N815


class Inputs(msgspec.Struct):
    inputs: list[Input]


class Read(msgspec.Struct):
    inputs: list[Input]
    properties: list[str] = []
    idProperty: str | None = None  # noqa: N815


class End(msgspec.Struct):
    id: str | int


class Kind(msgspec.Struct):
    associationTypeId: int  # noqa: N815
    associationCategory: str = ""  # noqa: N815


class Pair(msgspec.Struct, rename={"start": "from"}):
    start: End
    to: End
    types: list[Kind] = []


class Pairs(msgspec.Struct):
    inputs: list[Pair]


class CustomEvent(msgspec.Struct):
    """Something that a contact did."""

    eventName: str = ""  # noqa: N815
    email: str = ""
    objectId: str | int = ""  # noqa: N815
    utk: str = ""
    occurredAt: str = ""  # noqa: N815
    uuid: str = ""
    properties: dict[str, Any] = {}


class Told(msgspec.Struct):
    inputs: list[CustomEvent]


class Problem(msgspec.Struct):
    """Why one input is refused."""

    code: str
    message: str
    property: str = ""
    category: str = "VALIDATION_ERROR"
    status: int = 400


def _choice(name: str, values: Iterable[str]) -> Property:
    options = [{"label": value, "value": value} for value in values]
    return Property(name, type="enumeration", field_type="select", options=options)


NAMED = {
    "contacts": (
        "email", "firstname", "lastname", "company", "phone", "jobtitle", "city", "country",
    ),
    "companies": ("name", "domain", "phone", "city", "country"),
    "deals": ("dealname", "pipeline", "description"),
}  # fmt: skip


def properties_of(kind: str, unique: Iterable[str]) -> dict[str, Property]:
    """Of contacts, companies or deals."""
    made = [Property(name) for name in NAMED[kind]]
    if kind == "contacts":
        made += [_choice("hs_analytics_source", SOURCES)]
    if kind == "deals":
        made += [_choice("dealstage", DEAL_STAGES)]
        made += [Property("amount", type="number", field_type="number")]
        made += [Property("closedate", type="datetime", field_type="date")]
    else:
        made += [_choice("lifecyclestage", STAGES)]
        made += [Property("numberofemployees", type="number", field_type="number")]
    dates = ("createdate", STAMPS[kind])
    made += [Property(name, type="datetime", field_type="date") for name in dates]
    made += [Property("hs_object_id", type="number", field_type="number")]
    made += [Property(name, has_unique_value=True) for name in unique]
    return {p.name: p for p in made}


def shape(obj: Obj, names: Iterable[str], stamp: str) -> dict[str, Any]:
    """An object as the API gives it; a property that was asked for and is empty is null."""
    get = obj.values.get
    created, updated = iso(obj.created_ms), iso(obj.changed_ms)
    properties: dict[str, Any] = {name: get(name) for name in names}
    properties["createdate"] = created
    properties["hs_object_id"] = obj.id
    properties[stamp] = updated
    return {
        "id": obj.id,
        "properties": properties,
        "createdAt": created,
        "updatedAt": updated,
        "archived": obj.archived,
    }


@lru_cache(10_000)
def iso(at_ms: int) -> str:
    moment = datetime.fromtimestamp(at_ms // 1000, UTC).isoformat()
    return f"{moment[:19]}.{at_ms % 1000:03}Z"


def error_of(problem: Problem, context: dict[str, Any]) -> dict[str, Any]:
    if problem.category == "VALIDATION_ERROR":
        detail = {"isValid": False, "message": problem.message, "error": problem.code,
                  "name": problem.property}  # fmt: skip
        words = f"Property values were not valid: [{msgspec.json.encode(detail).decode()}]"
    else:
        words = problem.message
    return {"status": "error", "category": problem.category, "message": words, "context": context}


def names_in(given: str | None, kind: str) -> tuple[str, ...]:
    return tuple(given.split(",")) if given else DEFAULT_PROPERTIES[kind]


def as_text(value: Any) -> str:
    if type(value) is str:
        return value
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def correlation(number: int) -> str:
    """Looks like theirs, and names the request as the ledger does."""
    return f"00000000-0000-4000-8000-{number:012}"
