"""A compiled mapping and its destination's field list, as steps use them: filter, map, validate."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mappings.document import CLEAR, Compiled, FieldErrors, Filtered, Ref, plain
from mappings.fields import FieldList, check_row
from schemas.events import PlatformEvent
from streams.steps.catalog import FieldError, Shaped

__all__ = ["Checked"]


class Checked:
    """A `MappingDoc`. Without a field list nothing is validated: the destination has the say."""

    def __init__(
        self, compiled: Compiled, fields: FieldList | None = None, email_field: str = ""
    ) -> None:
        """`email_field`: source field that mappings see as `person.email`."""
        self.title = compiled.title
        self.key = compiled.document.to.key
        self.reads: Mapping[str, frozenset[str]] = compiled.sources
        self.inputs = compiled.reads | ({email_field} if email_field else frozenset[str]())
        self._compiled = compiled
        self._known = fields.by_name() if fields else None
        self._email_field = email_field

    def shape(self, values: Mapping[str, Any], event: PlatformEvent, person: str) -> Shaped:
        told = {
            "type": f"{event.object_type}.{event.kind.value}",
            "platform": event.platform,
            "object": event.object_type,
            "time": datetime.fromtimestamp(event.occurred_ms / 1000, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "changed": event.changed,
        }
        whose = {"key": person, "email": values.get(self._email_field)}
        match self._compiled.apply(values, told, whose):
            case Filtered():
                return Shaped(None, why="the mapping's filter leaves it out")
            case FieldErrors(errors):
                return Shaped(
                    {}, tuple(FieldError("map", e.field, "mapping", e.message) for e in errors)
                )
            case mapped:
                fields = mapped.fields
        if any(value is CLEAR or isinstance(value, Ref) for value in fields.values()):
            fields = plain(fields)
        if self._known is None:
            return Shaped(fields)
        wrong = check_row(fields, self._known)
        errors = tuple(FieldError("validate", p.field, p.code, p.message) for p in wrong)
        return Shaped(fields, errors)
