"""The part of SOQL that an integration uses, over a store in memory.

    SELECT Id, Email FROM Lead WHERE Email IN ('a@b.co') AND IsDeleted = false
    SELECT COUNT() FROM Lead WHERE SystemModstamp >= 2026-01-01T00:00:00Z AND Id > '00Q…'
    … ORDER BY SystemModstamp DESC, Id LIMIT 200 OFFSET 10

https://developer.salesforce.com/docs/atlas.en-us.soql_sosl.meta/soql_sosl/sforce_api_calls_soql_select.htm
Text compares without regard to case, ids with; a 15-character id equals its 18-character form.
No relationships, functions, aggregates other than COUNT(), or date literals as YESTERDAY.
"""

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from simulators.salesforce_fields import FIELDS, Field, full_id, looks_like_id
from simulators.store import Obj, Store

TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:\\.|[^'\\])*')"
    r"|(?P<moment>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d))"
    r"|(?P<number>-?\d+(?:\.\d+)?)"
    r"|(?P<name>[A-Za-z_][\w.]*)"
    r"|(?P<sign><=|>=|!=|<>|[=<>(),]))"
)
ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


class Malformed(ValueError):
    """What Salesforce answers with MALFORMED_QUERY, or with `code`."""

    def __init__(self, message: str, code: str = "MALFORMED_QUERY") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Compare:
    field: Field
    sign: str
    value: Any


@dataclass(frozen=True)
class In:
    field: Field
    values: frozenset[Any]
    raw: tuple[Any, ...]
    negated: bool


@dataclass(frozen=True)
class Joined:
    how: Callable[[Iterable[bool]], bool]  # all or any
    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Not:
    part: "Node"


Node = Compare | In | Joined | Not


@dataclass
class Query:
    kind: str
    fields: list[str] = field(default_factory=list)
    count: bool = False
    where: Node | None = None
    order: list[tuple[Field, bool]] = field(default_factory=list)  # and whether it goes down
    limit: int | None = None
    offset: int = 0


def value_of(obj: Obj, name: str) -> Any:
    """A field as the API gives it: stamps are milliseconds here, without their milliseconds."""
    match name:
        case "Id":
            return obj.id
        case "SystemModstamp" | "LastModifiedDate":
            return obj.changed_ms // 1000 * 1000
        case "CreatedDate":
            return obj.created_ms // 1000 * 1000
        case "IsDeleted":
            return obj.archived
        case _:
            return obj.values.get(name)


def run(query: Query, store: Store, *, deleted: bool = False) -> list[Obj]:
    """The records that match, in order."""
    where = query.where
    found = [
        obj
        for obj in _candidates(where, store)
        if (deleted or not obj.archived) and (where is None or _holds(where, obj))
    ]
    for by, down in reversed(query.order):
        found.sort(key=lambda obj, by=by: _sortable(value_of(obj, by.name)), reverse=down)
    end = None if query.limit is None else query.offset + query.limit
    return found[query.offset : end]


def _sortable(value: Any) -> tuple[bool, Any]:
    """Empty first, as Salesforce sorts upwards."""
    return (
        value is not None,
        value.lower() if isinstance(value, str) and len(value) != 18 else value,
    )


def _holds(node: Node, obj: Obj) -> bool:
    match node:
        case Joined(how, parts):
            return how(_holds(part, obj) for part in parts)
        case Not(part):
            return not _holds(part, obj)
        case In(by, values, _, negated):
            return (_comparable(by, value_of(obj, by.name)) in values) != negated
        case Compare(by, sign, value):
            mine = _comparable(by, value_of(obj, by.name))
            if sign in ("=", "!="):
                return (mine == value) == (sign == "=")
            if mine is None or value is None:
                return False
            return ORDERS[sign](mine, value)


def _candidates(node: Node | None, store: Store) -> Iterable[Obj]:
    """As few records as an index allows, in the order of their creation."""
    if node is not None:
        keyed = _keyed(node, store)
        if keyed is not None:
            return [keyed[number] for number in sorted(keyed)]
        since_ms = _since(node)
        if since_ms is not None:
            return sorted(store.changed_since(since_ms), key=lambda obj: obj.number)
    return store.numbered


def _keyed(node: Node, store: Store) -> dict[int, Obj] | None:
    """Records by number that alone can match, where the condition names indexed values."""
    match node:
        case Compare(by, "=", value) if value is not None and _indexed(by, store):
            return _look_up(by, (value,), store)
        case In(by, _, raw, False) if None not in raw and _indexed(by, store):
            return _look_up(by, raw, store)
        case Joined(how, parts):
            found = [k for part in parts if (k := _keyed(part, store)) is not None]
            if how is all:
                return min(found, key=len) if found else None
            if len(found) == len(parts):
                return {number: obj for k in found for number, obj in k.items()}
    return None


def _indexed(by: Field, store: Store) -> bool:
    return by.name == "Id" or by.name in store.indexes


def _look_up(by: Field, values: Iterable[Any], store: Store) -> dict[int, Obj]:
    found: dict[int, Obj] = {}
    for value in values:
        if by.name == "Id":
            obj = store.objects.get(str(value))
            found.update({obj.number: obj} if obj else {})
        else:
            found.update({o.number: o for o in store.indexes[by.name].all(value)})
    return found


def _since(node: Node) -> int | None:
    """The least SystemModstamp that can match, if the condition bounds it."""
    match node:
        case Compare(by, "=" | ">" | ">=", int() as value) if by.name == "SystemModstamp":
            return value
        case Joined(how, parts):
            found = [s for part in parts if (s := _since(part)) is not None]
            if how is all:
                return max(found, default=None)
            return min(found) if len(found) == len(parts) else None
    return None


def _comparable(by: Field, value: Any) -> Any:
    if isinstance(value, str) and by.type != "id":
        return value.lower()
    return value


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.place = text, 0
        self.tokens: list[tuple[str, str]] = []
        end = len(text.rstrip())
        place = 0
        while place < end:
            found = TOKEN.match(text, place)
            if found is None:
                raise Malformed(f"unexpected token: '{text[place : place + 20].strip()}'")
            self.tokens.append((str(found.lastgroup), found.group(str(found.lastgroup))))
            place = found.end()

    def peek(self) -> str:
        return self.tokens[self.place][1].upper() if self.place < len(self.tokens) else ""

    def take(self, *wanted: str) -> str:
        """The next token; one of `wanted` if any are given."""
        if self.place >= len(self.tokens):
            raise Malformed("unexpected token: '<EOF>'")
        token = self.tokens[self.place][1]
        if wanted and token.upper() not in wanted:
            raise Malformed(f"unexpected token: '{token}'")
        self.place += 1
        return token

    def took(self, *wanted: str) -> bool:
        if self.peek() in wanted:
            self.place += 1
            return True
        return False

    def query(self) -> Query:
        self.take("SELECT")
        names = [self.take()]
        count = names[0].upper() == "COUNT" and self.took("(")
        if count:
            self.take(")")
        while self.took(","):
            names.append(self.take())
        self.take("FROM")
        kind = self.take()
        if kind not in FIELDS:
            raise Malformed(f"sObject type '{kind}' is not supported.", "INVALID_TYPE")
        query = Query(kind, count=count)
        self.fields = {name.lower(): f for name, f in FIELDS[kind].items()}
        if not count:
            query.fields = [self.field(name).name for name in names]
        if self.took("WHERE"):
            query.where = self.either()
        if self.took("ORDER"):
            self.take("BY")
            query.order = [self.sort()]
            while self.took(","):
                query.order.append(self.sort())
        if self.took("LIMIT"):
            query.limit = int(self.take())
        if self.took("OFFSET"):
            query.offset = int(self.take())
        if self.place < len(self.tokens):
            self.take("<EOF>")
        return query

    def field(self, name: str) -> Field:
        found = self.fields.get(name.lower())
        if found is None:
            words = f"\n{self.text}\nERROR at Row:1:Column:{self.text.find(name) + 1}\nNo such column '{name}' on entity"  # noqa: E501
            raise Malformed(words, "INVALID_FIELD")
        return found

    def sort(self) -> tuple[Field, bool]:
        by = self.field(self.take())
        down = self.took("DESC")
        if not down:
            self.took("ASC")
        if self.took("NULLS"):
            self.take("FIRST", "LAST")
        return by, down

    def either(self) -> Node:
        parts = [self.both()]
        while self.took("OR"):
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else Joined(any, tuple(parts))

    def both(self) -> Node:
        parts = [self.one()]
        while self.took("AND"):
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else Joined(all, tuple(parts))

    def one(self) -> Node:
        if self.took("NOT"):
            return Not(self.one())
        if self.took("("):
            inner = self.either()
            self.take(")")
            return inner
        by = self.field(self.take())
        negated = self.took("NOT")
        if negated or self.peek() == "IN":
            self.take("IN")
            self.take("(")
            raw = [self.literal(by)]
            while self.took(","):
                raw.append(self.literal(by))
            self.take(")")
            return In(by, frozenset(_comparable(by, v) for v in raw), tuple(raw), negated)
        sign = self.take("=", "!=", "<>", "<", "<=", ">", ">=")
        return Compare(by, "!=" if sign == "<>" else sign, _comparable(by, self.literal(by)))

    def literal(self, by: Field) -> Any:
        if self.place >= len(self.tokens):
            raise Malformed("unexpected token: '<EOF>'")
        group, token = self.tokens[self.place]
        self.place += 1
        stamp = by.type == "datetime"
        if group == "name" and token.lower() in ("true", "false", "null"):
            return {"true": True, "false": False, "null": None}[token.lower()]
        if group == "moment" and stamp:
            return int(datetime.fromisoformat(token).timestamp() * 1000)
        if group == "number" and by.type in ("int", "double"):
            return float(token)
        if group == "text" and not stamp and by.type not in ("int", "double", "boolean"):
            text = re.sub(r"\\(.)", lambda m: ESCAPES.get(m[1], m[1]), token[1:-1])
            return _an_id(text) if by.type == "id" else text
        words = f"value of filter criterion for field '{by.name}' must be of type {by.type}"
        raise Malformed(words, "INVALID_FIELD")


def _an_id(text: str) -> str:
    if not looks_like_id(text):
        raise Malformed(f"invalid ID field: {text}", "INVALID_QUERY_FILTER_OPERATOR")
    return full_id(text)


def parse(text: str) -> Query:
    """Raises Malformed with Salesforce's code and words of about its kind."""
    return _Parser(text).query()
