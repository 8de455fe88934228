"""HubSpot's search, as https://developers.hubspot.com/docs/api/crm/search says.

At most 5 filter groups (joined by OR) of 6 filters (joined by AND), 18 filters in all; a body of at
most 3,000 characters; 200 results a page; 10,000 results a query, then 400. Archived contacts are
not found. Text compares without regard to case. Default order: by creation.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import msgspec

from simulators.store import Obj, Store

BODY_CHARACTERS_MAX = 3_000
RESULTS_MAX = 10_000
PAGE_MAX = 200
CHANGED = ("lastmodifieddate", "hs_lastmodifieddate")  # of contacts; of other objects
TIMES = ("createdate", *CHANGED)
NUMBERS = (*TIMES, "hs_object_id", "numberofemployees")


class Unacceptable(ValueError):
    """A search that HubSpot answers with 400; the text says why."""


class Filter(msgspec.Struct):
    propertyName: str  # noqa: N815 - the platform's names
    operator: str
    value: str | int | float | None = None
    highValue: str | int | float | None = None  # noqa: N815
    values: list[str | int | float] = []


class Group(msgspec.Struct):
    filters: list[Filter]


class Sort(msgspec.Struct):
    propertyName: str  # noqa: N815
    direction: str = "ASCENDING"


class Query(msgspec.Struct):
    filterGroups: list[Group] = []  # noqa: N815
    sorts: list[Sort | str] = []
    properties: list[str] = []
    limit: int = 10
    after: str | int = "0"
    query: str = ""


class Found(msgspec.Struct):
    page: list[Obj]
    total: int
    after: int | None
    properties: list[str]


def run(body: bytes, store: Store, until_ms: int) -> Found:
    """Objects changed at or before `until_ms` that match. Raises Unacceptable."""
    if len(body.decode()) > BODY_CHARACTERS_MAX:
        raise Unacceptable(f"The request body is longer than {BODY_CHARACTERS_MAX} characters")
    query = msgspec.json.decode(body, type=Query)
    _check(query)
    tests = [[_test(f) for f in group.filters] for group in query.filterGroups]
    found = [
        obj
        for obj in _candidates(query, store)
        if not obj.archived
        and obj.changed_ms <= until_ms
        and (not tests or any(all(test(obj) for test in group) for group in tests))
        and (not query.query or _mentions(obj, query.query.lower()))
    ]
    _sort(found, query.sorts)
    start, end = int(query.after), int(query.after) + query.limit
    return Found(found[start:end], len(found), end if end < len(found) else None, query.properties)


def _check(query: Query) -> None:
    if not 1 <= query.limit <= PAGE_MAX:
        raise Unacceptable(f"limit must be between 1 and {PAGE_MAX}")
    if not str(query.after).isdigit():
        raise Unacceptable("after must be a number")
    if int(query.after) + query.limit > RESULTS_MAX:
        raise Unacceptable("The total number of results of a query is limited to 10,000")
    sizes = [len(group.filters) for group in query.filterGroups]
    if len(sizes) > 5 or sum(sizes) > 18 or any(size > 6 for size in sizes):
        raise Unacceptable("At most 5 filter groups of 6 filters, and 18 filters in all")
    if len(query.sorts) > 1:
        raise Unacceptable("Only one sort is allowed")


def _candidates(query: Query, store: Store) -> Iterable[Obj]:
    """As few as an index allows, if there is one group."""
    if len(query.filterGroups) == 1:
        for f in query.filterGroups[0].filters:
            index = store.indexes.get(f.propertyName)
            if index is not None and f.operator in ("EQ", "IN"):
                keys = f.values if f.operator == "IN" else [f.value]
                found = {o.number: o for key in keys for o in index.find(key)}
                return [found[number] for number in sorted(found)]
        for f in query.filterGroups[0].filters:
            if f.propertyName in CHANGED and f.operator in ("GT", "GTE"):
                since = list(store.changed_since(int(_comparable(f.propertyName, f.value))))
                return sorted(since, key=lambda obj: obj.number)
    return store.numbered


def value_of(obj: Obj, name: str) -> Any:
    match name:
        case "lastmodifieddate" | "hs_lastmodifieddate":
            return obj.changed_ms
        case "createdate":
            return obj.created_ms
        case "hs_object_id":
            return int(obj.id)
        case _:
            value = obj.values.get(name)
            return None if value is None else _comparable(name, value)


def _comparable(name: str, value: Any) -> Any:
    text = str(value)
    if name not in NUMBERS:
        return text.lower()
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp() * 1000
    except ValueError:
        raise Unacceptable(f"{text!r} is no value for {name}") from None


def _test(f: Filter) -> Callable[[Obj], bool]:
    """One filter as a test; a contact without the property passes only NOT_HAS_PROPERTY, NEQ and NOT_IN."""  # noqa: E501
    name, operator = f.propertyName, f.operator
    if operator in ("HAS_PROPERTY", "NOT_HAS_PROPERTY"):
        has = operator == "HAS_PROPERTY"
        return lambda obj: (value_of(obj, name) is not None) == has
    if operator in ("IN", "NOT_IN"):
        if not f.values:
            raise Unacceptable(f"{operator} needs values")
        among, inside = {_comparable(name, v) for v in f.values}, operator == "IN"
        return lambda obj: (value_of(obj, name) in among) == inside
    if f.value is None:
        raise Unacceptable(f"{operator} needs a value")
    low = _comparable(name, f.value)
    match operator:
        case "EQ":
            return lambda obj: value_of(obj, name) == low
        case "NEQ":
            return lambda obj: value_of(obj, name) != low
        case "LT":
            return lambda obj: (v := value_of(obj, name)) is not None and v < low
        case "LTE":
            return lambda obj: (v := value_of(obj, name)) is not None and v <= low
        case "GT":
            return lambda obj: (v := value_of(obj, name)) is not None and v > low
        case "GTE":
            return lambda obj: (v := value_of(obj, name)) is not None and v >= low
        case "BETWEEN":
            high = _comparable(name, f.highValue)
            return lambda obj: (v := value_of(obj, name)) is not None and low <= v <= high
        case "CONTAINS_TOKEN":
            word = str(low).strip("*")
            return lambda obj: word in str(value_of(obj, name) or "")
        case "NOT_CONTAINS_TOKEN":
            word = str(low).strip("*")
            return lambda obj: word not in str(value_of(obj, name) or "")
        case _:
            raise Unacceptable(f"{operator} is no operator")


def _mentions(obj: Obj, words: str) -> bool:
    names = ("email", "firstname", "lastname", "phone", "company")
    return any(words in str(obj.values.get(name, "")).lower() for name in names)


def _sort(found: list[Obj], sorts: list[Sort | str]) -> None:
    """In place; equal ones stay in the order of their creation."""
    for sort in sorts:
        if isinstance(sort, str):
            name, down = sort.lstrip("-"), sort.startswith("-")
        else:
            name, down = sort.propertyName, sort.direction == "DESCENDING"
        # without a value: last, in either direction
        empty = [obj for obj in found if value_of(obj, name) is None]
        full = [obj for obj in found if value_of(obj, name) is not None]
        full.sort(key=lambda obj, name=name: value_of(obj, name), reverse=down)
        found[:] = full + empty
