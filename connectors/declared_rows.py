"""Rows and answers of a described platform: what goes out, what each row's fate is, what was read.

Pure. One `Shape` an object type, made once from its description.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from connectors.base import Found, Row, milliseconds
from connectors.declared_forms import MISSING, as_text, compiled, holds, look, parts, place
from connectors.declared_model import FieldForm, ObjectForm, Verdict, Write
from connectors.outcome import Accepted, Outcome, Parked, Retry, Unchanged, Written

__all__ = ["Shape", "Way"]

Known = dict[str, Any]


class Way:
    """One `write` of an object type, its templates made ready."""

    def __init__(self, number: int, form: Write, of: ObjectForm) -> None:
        self.number, self.form, self.answer = number, form, form.answer or of.answer
        self.path = compiled(form.path, path=True)
        self.query, self.row, self.body = map(compiled, (form.query, form.row, form.body))
        self._id = compiled(self.answer.id)
        self._of = [compiled(verdict.of) for verdict in self.answer.verdicts]
        self.alone = form.rows_max == 1 and of.rows_max > 1

    def fits(self, row: Row) -> bool:
        return self.form.for_ == "any" or (self.form.for_ == "known") == bool(row.object_id)

    def verdicts(self, answer: Any, rows: Sequence[Known]) -> list[Outcome]:
        """One outcome a row, in their order. The very same one for all where nothing is said."""
        fates: list[Outcome | None] = [None] * len(rows)
        for number, verdict in enumerate(self.answer.verdicts):
            for at, entry in self._named(number, verdict, answer, rows):
                if fates[at] is None:
                    fates[at] = self._fate(verdict, entry, rows[at])
        unnamed = sum(fate is None for fate in fates)
        told = look(answer, self.answer.count) if self.answer.count else unnamed
        if unnamed and (self.answer.otherwise == "retry" or told != unnamed):
            missing = Retry("no verdict in the answer")
            return [fate or missing for fate in fates]
        return [fate or self._unnamed(rows[at]) for at, fate in enumerate(fates)]

    def _named(
        self, number: int, verdict: Verdict, answer: Any, rows: Sequence[Known]
    ) -> list[tuple[int, Any]]:
        """(row, entry) of all entries that say which row they are."""
        found = look(answer, verdict.each)
        if found is MISSING or found is None:
            return []
        entries = found if isinstance(found, list) else [found]
        if verdict.index is not None:
            said = [(look(entry, verdict.index), entry) for entry in entries]
            pairs = [(at, e) for at, e in said if type(at) is int and 0 <= at < len(rows)]
        elif verdict.value is not None:
            where: dict[str, list[int]] = {}
            for at, known in enumerate(rows):
                where.setdefault(as_text(self._of[number](known)).lower(), []).append(at)
            pairs = [
                (at, entry)
                for entry in entries
                for at in where.get(as_text(look(entry, verdict.value)).lower(), ())
            ]
        elif len(entries) == len(rows):
            pairs = list(enumerate(entries))
        else:  # by place alone nobody knows whose verdicts are missing
            pairs = []
        return [(at, entry) for at, entry in pairs if holds(entry, verdict.when)]

    def _fate(self, verdict: Verdict, entry: Any, known: Known) -> Outcome | None:
        if verdict.is_ in ("written", "unchanged"):
            object_id = as_text(look(entry, verdict.id) if verdict.id else self._id(known))
            kind = Written if verdict.is_ == "written" else Unchanged
            return kind(object_id) if object_id else None
        words = as_text(look(entry, verdict.words)) if verdict.words else ""
        code = as_text(look(entry, verdict.code)) if verdict.code else ""
        field = as_text(look(entry, verdict.field)) if verdict.field else ""
        match verdict.is_:
            case "accepted":
                return Accepted()
            case "retry":
                return Retry(words or code)
            case _:
                code = code or verdict.named or "refused"
                field = field.rpartition("/")[2]  # JSON:API points: /data/attributes/email
                return Parked(code, words or verdict.named, field or verdict.names)

    def _unnamed(self, known: Known) -> Outcome:
        if self.answer.otherwise == "accepted":
            return Accepted()
        return Written(as_text(self._id(known)))


class Shape:
    """An object type."""

    def __init__(self, form: ObjectForm) -> None:
        self.form = form
        self.ways = [Way(n, write, form) for n, write in enumerate(form.write)]
        self.job = Way(len(self.ways), form.job.write, form) if form.job else None
        self._fields = {name: _Place(name, field) for name, field in form.fields.items()}
        self._lists = [(entry, compiled(entry.form), parts(entry.into)) for entry in form.lists]

    def way(self, row: Row) -> Way:
        """How this row is sent. The checks of a description see to it that one always fits."""
        return next(way for way in self.ways if way.fits(row))

    def together(self, row: Row) -> Any:
        way = self.way(row)
        if way.alone:
            return row.row_id
        return (way.number, self.carries(row)) if self.job else way.number

    def carries(self, row: Row) -> bool:
        """Whether a job can."""
        job = self.form.job
        return job is not None and (job.clears or None not in row.fields.values())

    def in_job(self, row: Row, known: Known) -> Any:
        """A row as its job has it."""
        assert self.form.job is not None
        assert self.job is not None
        own = "row" in self.form.job.write.model_fields_set
        return (self.job if own else self.way(row)).row(known)

    def known(self, row: Row, option: Mapping[str, Any]) -> Known:
        """What templates of a row may look at."""
        key = option.get(self.form.key_option) or self.form.key_field
        fields = {**row.fields, key: row.person} if key else row.fields
        known: Known = {
            "person": row.person,
            "row_id": row.row_id,
            "occurred_ms": row.occurred_ms,
            "occurred_s": row.occurred_ms // 1000,
            "occurred_at": datetime.fromtimestamp(row.occurred_ms / 1000, UTC).isoformat(),
            "field": row.fields,
            "fields": self._placed(fields),
            "option": option,
        }
        return {**known, "object_id": row.object_id} if row.object_id else known

    def _placed(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, value in fields.items():
            entry = next((e for e in self._lists if name.startswith(e[0].prefix)), None)
            if entry is not None:
                form, fill, path = entry
                said = form.clear if value is None else value
                one = fill({"name": name.removeprefix(form.prefix), "value": said})
                there = look(out, path)
                place(out, path, [*(() if there is MISSING else there), one])
                continue
            where = self._fields.get(name)
            if where is None:
                where = _Place(name, FieldForm())
            if not where.apart:
                place(out, where.path, where.written(value))
        return out

    def found(self, record: Any) -> Found:
        """One object as read."""
        form = self.form.record
        values = look(record, form.values)
        flat = dict(_flat(values if isinstance(values, dict) else {}))
        for path in form.beside:
            more = look(values, path)
            flat |= dict(_flat(more if isinstance(more, dict) else {}))
        for name, where in self._fields.items():
            for path in where.read:
                if (value := look(values, path)) is not MISSING:
                    flat[name] = value
                    break
        object_id = as_text(look(record, form.id))
        raw = msgspec.json.encode(record)
        return Found(object_id, msgspec.json.encode(flat), raw, self._changed_ms(record))

    def _changed_ms(self, record: Any) -> int:
        form = self.form.record
        value: Any = look(record, form.changed) if form.changed else None
        try:
            if form.changed_form == "iso":
                return max(0, milliseconds(value)) if isinstance(value, str) else 0
            return max(0, int(value * (1000 if form.changed_form == "unix_s" else 1)))
        except (TypeError, ValueError, OverflowError):  # no time: the page of changes has others
            return 0


class _Place:
    """Where one field stands."""

    def __init__(self, name: str, form: FieldForm) -> None:
        self.path = parts(form.at) if form.at else tuple(name.split("."))
        self.read = [parts(path) for path in form.read] or [self.path]
        self.apart, self._clear = form.apart, form.clear
        self._fill = None if form.form == "$value" else compiled(form.form)

    def written(self, value: Any) -> Any:
        if value is None:
            return self._clear
        return value if self._fill is None else self._fill({"value": value})


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Names with dots; lists stay as they are."""
    pairs: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            pairs += _flat(value, f"{before}{name}.")
        else:
            pairs.append((before + name, value))
    return pairs
