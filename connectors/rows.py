"""A row as it was read to an item on its way, with the identities it must not share. Pure."""

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import msgspec

from connectors.base import ObjectSpec, Row
from connectors.lanes import Item, Taken

__all__ = ["Reference", "item_of"]

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Reference(NamedTuple):
    """As a row has it (`mappings.compiled.plain`)."""

    field: str
    """Of the row."""
    object_type: str
    by: str
    value: str
    if_none: str
    if_many: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.object_type, self.by, self.value.lower()


def item_of(
    raw: dict[str, Any], taken: Taken, spec: ObjectSpec, target: str, match_field: str
) -> Item:
    """One UploadRow as decoded. `target`: `connection:object_type`; `match_field`: the sync's."""
    try:
        fields = _decode(raw["fields"])
    except msgspec.DecodeError:
        fields = None
    row = Row(
        raw["row_id"], raw["person"], raw["object_id"], fields or {}, raw["occurred_ms"],
        raw["removal"],
    )  # fmt: skip
    item = Item(row, taken, spec, raw, priority=taken.priority, broken=fields is None)
    fields = row.fields
    if b'"ref"' in raw["fields"]:
        item.references = _references_in(fields)
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


def _references_in(fields: Mapping[str, Any]) -> tuple[Reference, ...]:
    return tuple(
        Reference(
            name, value["ref"], value["by"], str(value["value"]).strip(),
            value.get("if_none", "wait"), value.get("if_many", "park"),
        )
        for name, value in fields.items()
        if type(value) is dict and {"ref", "by", "value"} <= value.keys()
    )  # fmt: skip
