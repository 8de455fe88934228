"""What people put in place of a source's values: given ones, or rules over what the source says.

Pure. `tried` shows what a release would send, with the mapping and the destination's field list as
the sync holds them; nothing is sent.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mappings.cel import Expression, compile_expression
from mappings.errors import EvaluationError
from mappings.functions import FUNCTIONS
from schemas.control import Target
from schemas.events import EventKind, PlatformEvent
from schemas.parked import ParkedRecord, Stage
from streams.steps.catalog import Plan
from syncline.errors import Misused

__all__ = ["Mend", "Tried", "grouped", "parse", "tried"]

TARGETS_MAX = 2_000
"""Records of one act: a message stays well below the customary limit of 1 MB."""


@dataclass(frozen=True)
class Mend:
    """Source field to its new value, or to a rule that makes it from the record."""

    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    rules: Mapping[str, Expression] = field(default_factory=dict[str, Expression])

    def __bool__(self) -> bool:
        return bool(self.values or self.rules)

    def of(self, record: ParkedRecord) -> dict[str, Any]:
        """What would be put in place in this record, where it differs. Raises ValueError where a
        rule cannot be applied; its text names the field and never a value."""
        source = _object(record.source)
        made = dict(self.values)
        for name, rule in self.rules.items():
            try:
                made[name] = rule.call(source, {}, {"key": record.person})
            except EvaluationError as error:
                raise ValueError(f"the rule for {name} fails: {error}") from None
            except Exception as error:  # noqa: BLE001 - a bug in a function
                raise ValueError(f"the rule for {name}: {type(error).__name__}") from None
        return {name: value for name, value in made.items() if source.get(name) != value}


def parse(pairs: Iterable[str], rules: Iterable[str]) -> Mend:
    """`FIELD=VALUE` and `FIELD=EXPRESSION` -> Mend. Raises Misused.

    An expression is one of mappings, over `record`; the name of a function alone stands for that
    function of the field: `lifecyclestage=trim`.
    """
    compiled: dict[str, Expression] = {}
    for text in rules:
        name, expression = _pair("--rule", text)
        if expression in FUNCTIONS:
            expression = f"{expression}(record[{json.dumps(name)}])"
        rule, wrong = compile_expression(expression, FUNCTIONS)
        if rule is None:
            words = "; ".join(f"column {e.column}: {e.message}" for e in wrong)
            raise Misused(f"--rule {name}: {words}")
        compiled[name] = rule
    return Mend(dict(_pair("--set", text) for text in pairs), compiled)


def grouped(
    records: Iterable[ParkedRecord], mend: Mend
) -> tuple[list[tuple[str, dict[str, Any], list[Target]]], dict[str, str]]:
    """-> ((sync, values, targets) for one act each; parked id to why it is left out)."""
    acts: dict[tuple[str, str], list[Target]] = defaultdict(list)
    left: dict[str, str] = {}
    for record in records:
        if record.stage not in (Stage.upload, Stage.map, Stage.validate):
            left[record.parked_id] = f"parked at {record.stage}: there is no value to mend"
            continue
        try:
            values = mend.of(record)
        except ValueError as error:
            left[record.parked_id] = str(error)
            continue
        if values:
            key = record.sync, json.dumps(values, sort_keys=True)
            acts[key].append(target_of(record))
        else:
            left[record.parked_id] = "the source says just that"
    return [
        (sync, json.loads(values), part)
        for (sync, values), targets in acts.items()
        for part in parts(targets)
    ], left


def target_of(record: ParkedRecord) -> Target:
    return Target(parked_id=record.parked_id, person=record.person, row_id=record.row_id)


def parts(targets: Sequence[Target]) -> list[list[Target]]:
    """As many as an act may have."""
    return [list(targets[i : i + TARGETS_MAX]) for i in range(0, len(targets), TARGETS_MAX)]


@dataclass(frozen=True)
class Tried:
    """What a release would do to one record. `why`: why it would not help; empty: as far as we can
    check it would."""

    parked_id: str
    why: str
    fields: Mapping[str, Any]
    """What would be sent."""
    changed: tuple[str, ...] = ()
    """Fields in which it differs from what was refused."""


def tried(
    record: ParkedRecord, mend: Mend, plan: Plan | None, platform: str,
    standing: Mapping[str, Any],
) -> Tried:  # fmt: skip
    """Map and validate the record as it would be. `standing`: fixes that apply already."""
    if plan is None:
        return Tried(record.parked_id, "its sync is not defined", {})
    if record.stage not in (Stage.upload, Stage.map, Stage.validate):
        return Tried(record.parked_id, f"parked at {record.stage}: there is nothing to map", {})
    try:
        values = {**_object(record.source), **standing, **mend.of(record)}
    except ValueError as error:
        return Tried(record.parked_id, str(error), {})
    wanted = {name: values.get(name) for name in plan.mapping.inputs}
    shaped = plan.mapping.shape(wanted, _event(record, plan, platform), record.person)
    fields, refused = shaped.fields or {}, _object(record.fields)
    changed = tuple(sorted(n for n, v in fields.items() if refused.get(n) != v))
    if shaped.errors:
        why = "; ".join(f"{e.field}: {e.words}" for e in shaped.errors)
    elif shaped.fields is None:
        why = f"it would not be sent: {shaped.why}"
    elif record.field in refused and fields.get(record.field) == refused[record.field]:
        why = f"{record.field} would be as it was when it was refused"
    elif record.stage is Stage.upload and not changed:
        why = "nothing would be other than it was when it was refused"
    else:
        why = ""
    return Tried(record.parked_id, why, fields, changed)


def _event(record: ParkedRecord, plan: Plan, platform: str) -> PlatformEvent:
    """What a mapping may ask about an event; `platform`: of the source."""
    return PlatformEvent(
        event_id=record.event_id, connection=plan.source, platform=platform,
        object_type=plan.source_object, object_id="", kind=EventKind.updated, run=record.run,
        record_no=record.record_no, occurred_ms=record.last_ms, received_ms=record.last_ms,
        values=b"{}", payload=b"",
    )  # fmt: skip


def _object(document: bytes) -> dict[str, Any]:
    """A parked record's JSON object; {} for bytes that are none."""
    try:
        values = json.loads(document)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _pair(option: str, text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise Misused(f"{option} wants FIELD=…, not {text!r}")
    return name, value
