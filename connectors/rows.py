"""A row as it was read to an item on its way, with the identities it must not share. Pure."""

from collections.abc import Hashable, Mapping
from typing import Any

import msgspec

from connectors.base import ObjectSpec, Row
from connectors.lanes import Item, Taken

__all__ = ["item_of", "reference_in"]

REFERENCE = {"ref", "by", "value"}

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def item_of(
    raw: dict[str, Any], taken: Taken, spec: ObjectSpec, target: str, match_field: str
) -> Item:
    """One UploadRow as decoded. `target`: `connection:object_type`; `match_field`: the sync's."""
    try:
        fields = _decode(raw["fields"])
    except msgspec.DecodeError:
        fields = None
    row = Row(raw["row_id"], raw["person"], raw["object_id"], fields or {}, raw["occurred_ms"])
    item = Item(row, taken, spec, raw, priority=taken.priority, broken=fields is None)
    fields = row.fields
    if spec.kind == "fact":
        return item  # appended, never merged: no order to keep
    keys: list[Hashable] = [(target, "person", row.person)]
    if row.object_id:
        keys.append((target, "object", row.object_id))
    elif match_field and not spec.identity_field:
        item.match = _text(fields.get(match_field))
    identity = item.match or _text(fields.get(spec.identity_field))
    if identity:
        keys.append((target, "value", identity.lower()))
    item.keys = tuple(keys)
    return item


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def reference_in(fields: Mapping[str, Any]) -> str:
    """First field that names an object to be looked up (`mappings.document.plain`); else empty."""
    for name, value in fields.items():
        if type(value) is dict and value.keys() == REFERENCE:
            return name
    return ""
