"""Fields of the simulated organisation, record ids, and the checks of one record.

Lengths, types and required fields of the standard objects:
https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_lead.htm
Addresses: https://help.salesforce.com/s/articleView?id=000387834 (before the @: letters, digits and
!#$%&'*/=?^_+-`{|}~ with single dots between; after it: labels of letters, digits and inner hyphens,
joined by dots, the last of at least two letters).
Ids: 15 characters in which case counts, or 18 whose last three encode that case.
"""

import re
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from typing import Any

import msgspec

ADDRESS = re.compile(
    r"[A-Za-z0-9!#$%&'*/=?^_+\-`{|}~]+(?:\.[A-Za-z0-9!#$%&'*/=?^_+\-`{|}~]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}"
)
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
CAPITALS = {i: "1" if "A" <= chr(i) <= "Z" else "0" for i in range(128)}
PREFIX = {"Lead": "00Q", "Contact": "003", "Account": "001", "Opportunity": "006"}
Error = dict[str, Any]


class Field(msgspec.Struct, frozen=True, rename="camel"):
    """One field, in the shape of describe."""

    name: str
    type: str
    length: int = 0
    nillable: bool = True
    createable: bool = True
    updateable: bool = True
    defaulted_on_create: bool = False
    external_id: bool = False
    unique: bool = False
    case_sensitive: bool = False
    id_lookup: bool = False
    custom: bool = False
    restricted_picklist: bool = False
    picklist_values: tuple[dict[str, Any], ...] = ()
    label: str = ""


def _own(name: str, kind: str, length: int = 0) -> Field:
    return Field(name, kind, length, False, False, False, True, id_lookup=kind == "id")


def _picklist(name: str, *values: str, length: int = 255) -> Field:
    options = tuple({"value": v, "label": v, "active": True, "defaultValue": False} for v in values)
    return Field(name, "picklist", length, picklist_values=options)


_SOURCES = ("Web", "Phone Inquiry", "Partner Referral", "Purchased List", "Other")
_SYSTEM = (
    _own("Id", "id", 18),
    _own("IsDeleted", "boolean"),
    _own("CreatedDate", "datetime"),
    _own("LastModifiedDate", "datetime"),
    _own("SystemModstamp", "datetime"),
)
_PERSON = (
    Field("FirstName", "string", 40),
    Field("LastName", "string", 80, nillable=False),
    Field("Email", "email", 80, id_lookup=True),
    Field("Phone", "phone", 40),
    Field("Title", "string", 128),
    _picklist("LeadSource", *_SOURCES),
    Field("Description", "textarea", 32_000),
)
_LEAD = (
    Field("Company", "string", 255, nillable=False),
    Field("City", "string", 40),
    Field("Country", "string", 80),
    Field("NumberOfEmployees", "int"),
    msgspec.structs.replace(
        _picklist("Status", "Open - Not Contacted", "Working - Contacted", "Closed - Converted"),
        nillable=False,
        defaulted_on_create=True,
    ),
)
_CONTACT = (
    Field("MailingCity", "string", 40),
    Field("MailingCountry", "string", 80),
    Field("AccountId", "reference", 18),
)
_ACCOUNT = (
    Field("Name", "string", 255, nillable=False),
    Field("Website", "url", 255),
    Field("Phone", "phone", 40),
    Field("BillingCity", "string", 40),
    Field("BillingCountry", "string", 80),
    Field("NumberOfEmployees", "int"),
    Field("Description", "textarea", 32_000),
)
_STAGES = (
    "Prospecting", "Qualification", "Proposal/Price Quote", "Negotiation/Review", "Closed Won",
    "Closed Lost",
)  # fmt: skip
_OPPORTUNITY = (
    Field("Name", "string", 120, nillable=False),
    msgspec.structs.replace(_picklist("StageName", *_STAGES), nillable=False),
    Field("CloseDate", "date", nillable=False),
    Field("Amount", "currency"),
    Field("AccountId", "reference", 18),
    Field("Description", "textarea", 32_000),
)
EXTERNAL_ID = Field(
    "Syncline_Id__c",
    "string",
    64,
    external_id=True,
    unique=True,
    case_sensitive=True,
    id_lookup=True,
    custom=True,
)
FIELDS = {
    kind: {f.name: f for f in (*_SYSTEM, *own, EXTERNAL_ID)}
    for kind, own in (
        ("Lead", (*_PERSON, *_LEAD)),
        ("Contact", (*_PERSON, *_CONTACT)),
        ("Account", _ACCOUNT),
        ("Opportunity", _OPPORTUNITY),
    )
}
REQUIRED = {
    kind: [f.name for f in fields.values() if not f.nillable and not f.defaulted_on_create]
    for kind, fields in FIELDS.items()
}
NAMED_BY = {kind: "Name" if "Name" in fields else "Email" for kind, fields in FIELDS.items()}
"""The field by which tests, and the questions of connectors, find a record."""
_LENGTHS = {  # writable text: the checks of these need no look at the field
    kind: {f.name: f.length for f in fields.values() if f.length and f.createable}
    for kind, fields in FIELDS.items()
}
_PARSED: dict[str, Callable[[Any], Any]] = {
    "int": int,
    "currency": float,
    "date": lambda text: date.fromisoformat(text).isoformat(),
}
_NAMES = {kind: {name.lower(): name for name in fields} for kind, fields in FIELDS.items()}


class Mistyped(ValueError):
    """A value of the wrong JSON type: Salesforce refuses the whole request."""


def new_id(kind: str, number: int) -> str:
    """18 characters, growing with `number`."""
    number, last = divmod(number, 62)
    number, middle = divmod(number, 62)
    return full_id(_id_head(kind, number) + BASE62[middle] + BASE62[last])


@lru_cache(1_000)
def _id_head(kind: str, number: int) -> str:
    digits = ""
    for _ in range(7):
        number, digit = divmod(number, 62)
        digits = BASE62[digit] + digits
    return f"{PREFIX[kind]}5g0{digits}"


def full_id(object_id: str) -> str:
    """The 18-character form of an id of 15 characters, or of 18 whose last three do not count."""
    return f"{object_id[:15]}{_tail(object_id[:10])}{_fifth(object_id[10:15])}"


def looks_like_id(text: str) -> bool:
    return len(text) in (15, 18) and text.isascii() and text.isalnum()


@lru_cache(10_000)
def _tail(head: str) -> str:
    return _fifth(head[:5]) + _fifth(head[5:])


def _fifth(chunk: str) -> str:
    """Which of five characters are capitals, the first as the lowest bit, as one character."""
    return BASE32[int("0" + chunk[::-1].translate(CAPITALS), 2)]


def error(code: str, message: str, *fields: str) -> Error:
    return {"statusCode": code, "message": message, "fields": list(fields)}


def check(kind: str, record: dict[str, Any], *, new: bool) -> tuple[dict[str, Any], Error | None]:
    """-> the values as they are stored (None clears), and what is wrong with the first bad one.

    Raises Mistyped.
    """
    length_of, values = _LENGTHS[kind].get, record
    for name, value in record.items():
        text = type(value) is str and 0 < len(value) <= length_of(name, 0)
        if text and value[0] > " " < value[-1]:
            continue  # nearly all
        if name == "attributes":
            continue
        known, stored, wrong = _rare(kind, name, value)
        if wrong is not None:
            return values, wrong
        if known != name or stored is not value:
            values = dict(record) if values is record else values
            values.pop(name, None)
            values[known] = stored
    values.pop("attributes", None)
    email = values.get("Email")
    if email is not None and not ADDRESS.fullmatch(email):
        words = f"Email: invalid email address: {email}"
        return values, error("INVALID_EMAIL_ADDRESS", words, "Email")
    for name in REQUIRED[kind]:
        if values.get(name) is None and (new or name in values):
            missing = [n for n in REQUIRED[kind] if values.get(n) is None and (new or n in values)]
            words = f"Required fields are missing: [{', '.join(missing)}]"
            return values, error("REQUIRED_FIELD_MISSING", words, *missing)
    return values, None


def _rare(kind: str, name: str, value: Any) -> tuple[str, Any, Error | None]:
    """Whatever is not text in a writable text field -> its real name, the value, what is wrong."""
    known = _NAMES[kind].get(name.lower())
    if known is None:
        words = f"No such column '{name}' on sobject of type {kind}"
        return name, None, error("INVALID_FIELD", words, name)
    field = FIELDS[kind][known]
    if not field.createable:
        words = f"Unable to create/update fields: {known}. Please check the security settings of this field and verify that it is read/write for your profile or permission set."  # noqa: E501
        return known, None, error("INVALID_FIELD_FOR_INSERT_UPDATE", words, known)
    if value is None or value == "":
        return known, None, None
    if parse := _PARSED.get(field.type):
        try:
            value = parse(value)
        except (TypeError, ValueError):
            words = f"Cannot deserialize instance of {field.type} from VALUE_STRING value {value}"
            raise Mistyped(words) from None
        if field.type == "int" and not -(10**8) < value < 10**8:
            words = f"{known}: value outside of valid range"
            return known, None, error("NUMBER_OUTSIDE_VALID_RANGE", words, known)
        return known, value, None
    if isinstance(value, dict | list):
        raise Mistyped(f"Cannot deserialize instance of {field.type} from START_OBJECT value")
    text = (str(value).lower() if isinstance(value, bool) else str(value)).strip()
    if len(text) > field.length:
        words = f"{known}: data value too large: {text} (max length={field.length})"
        return known, None, error("STRING_TOO_LONG", words, known)
    return known, text or None, None
