"""Platforms that are simulated from a description: `simulators/platforms/<name>.yaml`.

Each description is written from the platform's own pages, which it names, and says what is our
reading where they are silent. A description has

auth      header and value that are right; `refused`: the answer to any other
requires  headers without which nothing works, with a pattern, and the answer
windows   name to kind (rolling, calendar, concurrent), limit, window_s; `weighted`: by cost
refusal   the answer of a full window (`@policy`, `@wait_s`); `bare`: the same from its edge
object    `unique` fields that name one object each (`folded`: whatever their case), `ids` of new
          objects or the field that `id_from` names, `checks` that values must pass, `needs`: of
          these fields a new one has at least one, `clears`: what clears a value besides null
fields    names, for the list of fields
calls     `on` method and pattern of the path; `does` what (below); `windows` that it spends, and
          its `cost`

does: say       only the answer
      login     a fresh token
      upsert    each row of `rows`: found by the first of `by` that it has, changed, else made
      create    the same, but who is there already gets the answer `conflict`
      update    the object whose id stands in the path
      append    facts; one with an id (`by`) that is known already changes nothing
      job       rows of an upsert, worked at `job_s` after they came; null leaves a value alone
      progress  the state of the job whose id stands in the path: `states`, before and after
      results   a page of that job's rows: of the `good` or of the `bad` ones
      read      the object whose id stands in the path; find: those with `value`s in `field`
      list      a page of all
      fields    the list of fields

Answers are templates: `@a.b` is the value at that path of what is known, `{a.b}` in a text too.
Known are query, body, path, and of a row id, row, values, made, code, words, field, index; of an
object read id, values, changed, changed_s; of an answer good, bad, all, first and their counts.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
from ruamel.yaml import YAML

from simulators.declared_answers import Data, answered, filled, flat, look, nested, told, window
from simulators.faults import Fault
from simulators.quotas import Rolling, Window
from simulators.server import Answer, Call, Platform, Refused, Source, each
from simulators.store import Index, Obj, Store

__all__ = ["NAMES", "Declared", "declared"]

FOLDER = Path(__file__).with_name("platforms")
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def declared(name: str) -> "Callable[..., Declared]":
    """The simulator of a described platform: call it like any other platform's class."""
    return partial(Declared, YAML(typ="safe", pure=True).load(FOLDER / f"{name}.yaml"))


@dataclass
class Job:
    """Rows that were handed over in one call."""

    call: Call
    said: Data
    rows: list[Any]
    due_ms: int
    fates: list[dict[str, Any]] = field(default_factory=list)
    cancelled: bool = False

    @property
    def open(self) -> bool:
        return not (self.fates or self.cancelled)


class Declared(Platform):
    """One described platform. `objects` are there from the beginning: their values, flat."""

    routes = []

    def __init__(
        self,
        about: Data,
        objects: Source[Mapping[str, Any]] = (),
        *,
        seed: int = 0,
        quota: Mapping[str, str] | None = None,
        script: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.about, self._objects = about, objects
        self.name = about["platform"]  # type: ignore[misc]
        form = about["object"]
        fold = set(form.get("folded", ()))
        unique = form["unique"]
        indexes = {name: Index(str.lower if name in fold else None) for name in unique}
        facts = Store({"id": Index()}, "id")
        super().__init__(
            {"objects": Store(indexes, unique[0]), "facts": facts},
            [window(name, said) for name, said in about["windows"].items()],
            seed=seed, quota=quota, script=script,
        )  # fmt: skip
        self._token = self._tokens = 0
        self.jobs: dict[str, Job] = {}
        self._spends: list[tuple[str, re.Pattern[str], list[Window], int]] = []
        for said in about["calls"]:
            method, _, pattern = said["on"].partition(" ")
            path = re.compile(pattern)
            work = getattr(self, f"_{said['does']}")
            self._routes.append((method, path, partial(self._called, said, work, path)))
            spent = [self.windows[name] for name in said.get("windows", about["spends"])]
            self._spends.append((method, path, spent, said.get("cost", 1)))
        self.fill()

    def fill(self) -> None:
        for values in each(self._objects):
            at_ms = self.started_ms - 86_400_000
            self.store.seed(self._new_id(values), dict(values), at_ms, at_ms)

    # -- who may, and how much

    def recognise(self, call: Call) -> None:
        auth = self.about["auth"]
        if any(
            method == call.method and path.fullmatch(call.path) and not windows
            for method, path, windows, _ in self._spends
        ) and auth.get("login"):
            return  # whoever asks for a token has none yet
        right = auth["value"].replace("{token}", f"token-{self._token}")
        if call.headers.get(auth["header"], "") != right or (auth.get("login") and not self._token):
            raise Refused(answered(auth["refused"], {}))
        for name, wanted in self.about.get("requires", {}).items():
            if not re.fullmatch(wanted["pattern"], call.headers.get(name, "")):
                raise Refused(answered(wanted, {}))

    def expire_tokens(self) -> None:
        self._token = 0

    def limits(self, call: Call) -> list[Window]:
        return self._spent(call)[0]

    def cost(self, call: Call) -> int:
        return self._spent(call)[1]

    def _spent(self, call: Call) -> tuple[list[Window], int]:
        for method, path, windows, cost in self._spends:
            if method == call.method and path.fullmatch(call.path):
                return windows, cost
        return [], 1

    def over_limit(self, policy: str, now: float, *, bare: bool = False) -> Answer:
        full = self.windows.get(policy)
        wait_s = max(1, round(full.window_s)) if isinstance(full, Rolling) else 1
        known = {"policy": policy, "wait_s": wait_s, "reset_s": int(now) + wait_s}
        refusals = self.about["refusals"]
        if bare:
            return answered(refusals["bare"], known)
        return answered(refusals.get(policy, refusals["any"]), known)

    def with_limits(self, call: Call, answer: Answer, now: float) -> None:
        for header, said in self.about.get("headers", {}).items():
            of = self.windows[said["window"]]
            if answer.status < 400 and of.limit is not None and of in self.limits(call):
                left = of.limit - of.used(now)
                text = {"left": left, "limit": of.limit, "reset_s": int(now) + 1}[said["says"]]
                answer.headers[header] = str(text)

    def not_found(self, call: Call) -> Answer:
        return answered(self.about["not_found"], {"id": ""})

    def malformed(self, call: Call, problem: Exception) -> Answer:
        return answered(self.about["malformed"], {"words": str(problem)})

    def act(self, call: Call, acts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """{"id", "values"} changes an object, {"values"} makes one, {"delete": id} ends one."""
        done: list[dict[str, Any]] = []
        for one in acts:
            if "delete" in one:
                self.store.archive(call, 0, self.store.objects[one["delete"]])
            elif "id" in one:
                self.store.update(call, 0, self.store.objects[one["id"]], one["values"])
            else:
                self.store.create(call, 0, self._new_id(one["values"]), dict(one["values"]))
            done.append({"at_ms": call.at_ms})
        return done

    # -- calls

    def _called(
        self, said: Data, work: Callable[..., Answer], path: re.Pattern[str], call: Call, *_: str
    ) -> Answer:
        if len(call.body) > said.get("bytes_max", 16 << 20):
            return self.too_large(call)
        match = path.fullmatch(call.path)
        assert match is not None
        body: Any = None
        if call.body and "json" in call.headers.get("Content-Type", ""):
            body = msgspec.json.decode(call.body)
        known = {
            "query": call.params(),
            "body": body,
            "path": {name: unquote(value) for name, value in match.groupdict().items()},
        }
        return work(call, said, known)

    def _say(self, call: Call, said: Data, known: dict[str, Any]) -> Answer:
        return answered(said, known)

    def _login(self, call: Call, said: Data, known: dict[str, Any]) -> Answer:
        form = dict(pair.split("=", 1) for pair in call.body.decode().split("&") if "=" in pair)
        if any(form.get(name) != value for name, value in said["form"].items()):
            return answered(said["refused"], known)
        self._tokens += 1
        self._token = self._tokens
        return answered(said, known | {"token": f"token-{self._token}"})

    def _fields(self, call: Call, said: Data, known: dict[str, Any]) -> Answer:
        names = self.about["fields"]
        listed = [filled(said["each"], {"name": name, "index": n}) for n, name in enumerate(names)]
        return answered(said, known | {"all": listed})

    # -- writing

    def _upsert(self, call: Call, said: Data, known: dict[str, Any]) -> Answer:
        return self._write(call, said, known, self.store)

    _create = _upsert

    def _append(self, call: Call, said: Data, known: dict[str, Any]) -> Answer:
        return self._write(call, said, known, self.stores["facts"])

    def _update(self, call: Call, said: Data, known: dict[str, Any]) -> Answer:
        obj = self.store.objects.get(known["path"]["id"])
        if obj is None or obj.archived:
            return answered(self.about["not_found"], {"id": known["path"]["id"]})
        return self._write(call, said, known, self.store, obj)

    def _write(
        self, call: Call, said: Data, known: dict[str, Any], store: Store, obj: Obj | None = None
    ) -> Answer:
        found = look(known, said.get("rows", "body"))
        rows = found if isinstance(found, list) else [found]
        if not all(isinstance(row, dict) for row in rows) or not rows:
            return answered(self.about["malformed"], {"words": "rows are missing"})
        if len(rows) > said.get("rows_max", 1 << 20):
            words = f"{len(rows)} rows are too many"
            return answered(said.get("too_many", self.about["malformed"]), {"words": words})
        fates = [self._row(call, said, n, row, store, obj) for n, row in enumerate(rows)]
        if len(rows) == 1 and not fates[0]["ok"] and (whole := said.get(fates[0]["why"])):
            return answered(whole, known | fates[0])
        known |= told(call.struck.edit(fates), said)
        bad = [fate for fate in fates if not fate["ok"]]
        status = said.get("status", 200)
        if bad:
            status = said.get("status_bad", status)
        elif all(fate["made"] for fate in fates):
            status = said.get("status_new", status)
        return answered({**said, "status": status}, known)

    def _row(
        self, call: Call, said: Data, index: int, row: Any, store: Store, obj: Obj | None
    ) -> dict[str, Any]:
        """Write one row -> its fate, as templates see it."""
        values = self._values(said, row)
        fate = {"index": index, "row": row, "ok": False, "why": "bad", "made": False}
        if wrong := self._wrong(call, values):
            self.rows["refused"] += 1
            return fate | wrong
        names = said.get("by", {})
        unknown = False
        for name, where in {} if obj is not None else names.items():
            value = look(row, where)
            if value is None or value == "":
                continue
            obj = (
                store.objects.get(str(value)) if name == "id" else store.indexes[name].first(value)
            )
            unknown = name == "id" and obj is None and said["does"] != "append"
            if obj is not None or unknown:
                break
        if unknown and "id_from" not in self.about["object"]:
            self.rows["refused"] += 1
            return fate | self.about["unknown"]
        if obj is not None and said["does"] == "create":
            return fate | {"why": "conflict", "id": obj.id}
        if obj is None and store is self.store and (lack := self._lacks(values)):
            self.rows["refused"] += 1
            return fate | lack
        self.rows["written"] += 1
        if obj is None:
            kept = {name: value for name, value in values.items() if value is not None}
            new = (
                str(look(row, names["id"]) or len(store.numbered))
                if store is not self.store
                else self._new_id(kept)
            )
            obj = store.create(call, index, new, kept)
            return fate | self._seen(obj) | {"ok": True, "made": True}
        if said["does"] != "append":
            store.update(call, index, obj, values)
        return fate | self._seen(obj) | {"ok": True}

    def _values(self, said: Data, row: Any) -> dict[str, Any]:
        """A row's values, flat; None clears."""
        whole = look(row, said.get("at", "."))
        leave = set(said.get("leave", ()))
        clears = self.about["object"].get("clears")
        found = {
            name: None if value == clears and clears is not None else value
            for name, value in flat(whole if isinstance(whole, dict) else {})
            if name.partition(".")[0] not in leave and not (value is None and said["does"] == "job")
        }
        for name, where in said.get("take", {}).items():
            holder, _, leaf = where.rpartition(".")
            around = look(row, holder or ".")
            if isinstance(around, list) or (isinstance(around, dict) and leaf in around):
                found[name] = look(row, where)
        return found

    def _wrong(self, call: Call, values: Mapping[str, Any]) -> dict[str, Any] | None:
        fault: Fault | None = None
        if call.struck.refusing:
            fault = call.struck.refuses(values.get)
        if fault is not None:
            return {"code": fault.code, "words": fault.message, "field": fault.rows.field}
        for name, check in self.about["object"].get("checks", {}).items():
            value = values.get(name)
            if value is not None and not re.fullmatch(check["pattern"], str(value)):
                return {"code": check["code"], "words": check["words"], "field": name}
        return None

    def _lacks(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """What a new object must have."""
        needs = self.about["object"].get("needs")
        if needs is None or any(values.get(name) is not None for name in needs["any"]):
            return None
        return {"code": needs["code"], "words": needs["words"], "field": ""}

    def _new_id(self, values: Mapping[str, Any]) -> str:
        form = self.about["object"]
        if "id_from" in form:
            return str(values[form["id_from"]])
        return str(form["ids"]).format(number=len(self.store.numbered) + 1)

    # -- jobs

    def _job(self, call: Call, said: Data, known: dict[str, Any]) -> Answer:
        rows = look(known, said["rows"])
        if not isinstance(rows, list) or not 0 < len(rows) <= said["rows_max"]:
            return answered(self.about["malformed"], {"words": "rows are missing, or too many"})
        name = f"job-{len(self.jobs) + 1}"
        self.jobs[name] = Job(call, said, rows, call.at_ms + int(said["job_s"] * 1000))
        return answered(said, known | {"job": name})

    def _progress(self, call: Call, said: Data, known: dict[str, Any]) -> Answer:
        if (job := self.jobs.get(known["path"]["id"])) is None:
            return answered(self.about["not_found"], known["path"])
        states = said["states"]
        state = states["open" if job.open else "cancelled" if job.cancelled else "ended"]
        good = sum(fate["ok"] for fate in job.fates)
        counts = {"rows": len(job.rows), "good": good, "bad": len(job.fates) - good}
        return answered(said, known | counts | {"state": state})

    def _results(self, call: Call, said: Data, known: dict[str, Any]) -> Answer:
        if (job := self.jobs.get(known["path"]["id"])) is None:
            return answered(self.about["not_found"], known["path"])
        found = [filled(said["each"], f) for f in job.fates if f["ok"] == (said["of"] == "good")]
        size = min(int(look(known, said["size"]) or said["size_usual"]), said["size_max"])
        start = int(look(known, said["token"]) or 0)
        known |= {"all": found[start : start + size], "next": str(start + size)}
        more = start + size < len(found)
        known["next_part"] = filled(said["next"], known) if more else None
        return answered(said, known)

    def answer(self, call: Call) -> Answer:
        for job in self.jobs.values():
            if job.open and call.at_ms >= job.due_ms:
                fates = [
                    self._row(job.call, job.said, n, row, self.store, None)
                    for n, row in enumerate(job.rows)
                ]
                job.fates = job.call.struck.edit(fates)
        return super().answer(call)

    # -- reading

    def _read(self, call: Call, said: Data, known: dict[str, Any]) -> Answer:
        value = known["path"]["id"]
        name = said.get("field", "id")
        index = self.store.indexes.get(name)
        obj = self.store.objects.get(value) if index is None else index.first(value)
        if obj is None or obj.archived:
            return answered(said.get("missing", self.about["not_found"]), {"id": value})
        self.rows["read"] += 1
        record = filled(self.about["record"], self._seen(obj))
        return answered(said, known | {"first": record, "all": [record]})

    def _find(self, call: Call, said: Data, known: dict[str, Any]) -> Answer:
        asked = self._asked(said, known)
        if asked is None:
            return answered(self.about["malformed"], {"words": "what is asked for?"})
        name, values = asked
        found: dict[int, Obj] = {}
        for value in values[: said.get("values_max", 1 << 20)]:
            if name == said.get("id_name", "id"):
                obj = self.store.objects.get(value)
                objs = [obj] if obj is not None and not obj.archived else []
            elif name in self.store.indexes:
                objs = self.store.indexes[name].find(value)
            else:
                objs = [o for o in self.store.alive() if str(o.values.get(name)) == value]
            found.update((obj.number, obj) for obj in objs)
        self.rows["read"] += len(found)
        return self._page(said, known, list(found.values()), "")

    def _asked(self, said: Data, known: dict[str, Any]) -> tuple[str, list[str]] | None:
        """(field, values) that a search asks for."""
        for form in said["asks"]:
            text = look(known, form["in"])
            if text is None:
                continue
            if "pattern" in form:
                hit = re.fullmatch(form["pattern"], str(text))
                if hit is None:
                    continue
                text = hit["values"]
                name = hit.groupdict().get("field") or form.get("field")
            else:
                name = form.get("field") or look(known, form["named"])
            if form.get("as") == "json":
                text = msgspec.json.decode(f"[{text}]".encode())
            elif form.get("as") == "commas":
                text = str(text).split(",")
            values = text if isinstance(text, list) else [text]
            return str(name), [str(value) for value in values]
        return None

    def _list(self, call: Call, said: Data, known: dict[str, Any]) -> Answer:
        """Objects in use by creation, or those asked for. The token is the number of the next, or
        the id of the last."""
        if said.get("asks") and self._asked(said, known) is not None:
            return self._find(call, said, known)
        size = int(look(known, said["size"]) or said["size_usual"])
        size = min(size, said["size_max"])
        token = str(look(known, said["token"]) or "")
        start = 0
        if token and said.get("token_is") == "id":
            start = self.store.objects[token].number + 1 if token in self.store.objects else 0
        elif token:
            start = int(token)
        page = [o for o in self.store.numbered[start:] if not o.archived][: size + 1]
        more = len(page) > size
        page = page[:size]
        self.rows["read"] += len(page)
        return self._page(said, known, page, str(page[-1].number + 1) if more else "")

    def _page(self, said: Data, known: dict[str, Any], page: list[Obj], token: str) -> Answer:
        each_ = said.get("each", self.about["record"])
        records = [filled(each_, self._seen(obj)) for obj in page]
        known |= {"all": records, "count": len(records), "next": token or None}
        known["next_part"] = filled(said["next"], known) if token and "next" in said else None
        return answered(said, known)

    def _seen(self, obj: Obj) -> dict[str, Any]:
        moment = datetime.fromtimestamp(obj.changed_ms // 1000, UTC)
        return {
            "id": obj.id,
            "id_number": int(obj.id) if obj.id.isdigit() else None,
            "values": nested(obj.values),
            "changed": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "changed_s": obj.changed_ms // 1000,
        }
