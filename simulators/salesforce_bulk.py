"""Bulk API 2.0 of the simulated organisation: ingest jobs, worked at a while after they are closed.

Behaves as https://developer.salesforce.com/docs/atlas.en-us.api_asynch.meta/api_asynch/ says
(create_job, upload_job_data, close_job, get_job_info, get_job_successful_results,
get_job_failed_results, get_job_unprocessed_results; read 2026-08). CSV only, comma and LF only.

Our reading where the pages are silent
- a job is worked at `job_s` seconds after it was closed, all of it in one moment; faults that
  refuse rows are those of the call that closed it
- rows of one external id twice in a job: the later ones get DUPLICATE_VALUE
- a column that is no field makes the job fail as a whole, with all of its rows unprocessed
- a call that the state of the job forbids: 400 INVALIDJOBSTATE
"""

import csv
import io
import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from simulators.salesforce_answers import errors
from simulators.salesforce_fields import FIELDS, Error, Mistyped
from simulators.server import Answer, Call, Refused

BODY_BYTES_MAX = 150_000_000
OPERATIONS = ("upsert", "update", "insert")

Settle = Callable[["Call", "Job", int, dict[str, Any]], dict[str, Any]]
"""(closing call, job, row, record) -> `{"id", "success", "created", "errors"}`. Raises Mistyped."""


class Wanted(msgspec.Struct):
    """What a job is opened with."""

    object: str
    operation: str
    externalIdFieldName: str = ""  # noqa: N815 - the platform's names
    contentType: str = "CSV"  # noqa: N815
    columnDelimiter: str = "COMMA"  # noqa: N815
    lineEnding: str = "LF"  # noqa: N815


class Change(msgspec.Struct):
    state: str


class Job:
    """One ingest job."""

    def __init__(self, number: int, wanted: Wanted, opened_ms: int) -> None:
        self.id = f"7505g{number:010}AAA"
        self.wanted, self.opened_ms = wanted, opened_ms
        self.state, self.why = "Open", ""
        self.rows: list[list[str]] = []
        """Cells, until the job was worked at: then its files hold all that is asked for."""
        self.columns: list[str] = []
        self.due_ms = 0
        self.closed: Call | None = None
        self.processed = self.refused = 0
        self.files: dict[str, bytes] = {}
        self.seen: set[str] = set()

    def about(self) -> dict[str, Any]:
        return {
            "id": self.id,
            **msgspec.to_builtins(self.wanted),
            "state": self.state,
            "errorMessage": self.why or None,
            "contentUrl": f"services/data/v59.0/jobs/ingest/{self.id}/batches",
            "concurrencyMode": "Parallel",
            "jobType": "V2Ingest",
            "numberRecordsProcessed": self.processed,
            "numberRecordsFailed": self.refused,
        }

    def end(self, state: str, results: Sequence[Mapping[str, Any]] = ()) -> None:
        """A result for each row, or none at all: then it came to none of them."""
        self.state, self.closed, self.seen = state, None, set()
        self.processed = len(results)
        taken = [r["success"] for r in results]
        self.refused = taken.count(False)
        pairs = list(zip(results, self.rows, strict=False))
        self.files = {
            "successfulResults": _csv(
                ["sf__Id", "sf__Created", *self.columns],
                ([r["id"], str(r["created"]).lower(), *row] for r, row in pairs if r["success"]),
            ),
            "failedResults": _csv(
                ["sf__Id", "sf__Error", *self.columns],
                ([r.get("id") or "", _said(r["errors"]), *row]
                 for r, row in pairs if not r["success"]),
            ),
            "unprocessedrecords": _csv(self.columns, self.rows[len(results) :]),
        }  # fmt: skip
        self.rows = []


def _csv(head: list[str], rows: Iterable[list[str]]) -> bytes:
    text = io.StringIO()
    out = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    out.writerow(head)
    out.writerows(rows)
    return text.getvalue().encode()


def _said(problems: list[Error]) -> str:
    problem = problems[0]
    fields = ", ".join(problem["fields"])
    return f"{problem['statusCode']}:{problem['message']}:{fields} --"


def value_of(kind: str, name: str, cell: str) -> Any:
    """A cell as the field takes it. Raises Mistyped."""
    if cell == "#N/A":
        return None
    match FIELDS[kind][name].type:
        case "boolean":
            if cell.lower() not in ("true", "false"):
                raise Mistyped(f"INVALID_TYPE_ON_FIELD_IN_RECORD:{name}")
            return cell.lower() == "true"
        case "double":
            return float(cell)
        case _:
            return cell


class Jobs:
    """All ingest jobs of an organisation."""

    def __init__(self, settle: Settle, job_s: float) -> None:
        self._settle, self.job_s = settle, job_s
        self.jobs: dict[str, Job] = {}
        self._numbers = itertools.count(1)
        self._closed: deque[Job] = deque()
        """That were closed and not worked at yet, in that order."""

    def work(self, now_ms: int) -> None:
        """What is due by now."""
        while self._closed and now_ms >= self._closed[0].due_ms:
            job = self._closed.popleft()
            if job.id in self.jobs and job.state == "UploadComplete":
                self._work(job)

    def stats(self) -> dict[str, Any]:
        """Jobs by state, and the rows that those which are done came to."""
        states = Counter(job.state for job in self.jobs.values())
        return {"states": states, "rows": sum(job.processed for job in self.jobs.values())}

    def _work(self, job: Job) -> None:
        kind = job.wanted.object
        unknown = [name for name in job.columns if name not in FIELDS[kind]]
        if unknown:
            job.why = f"InvalidBatch : Field name not found : {unknown[0]}"
            job.end("Failed")
            return
        assert job.closed is not None
        results: list[dict[str, Any]] = []
        for number, row in enumerate(job.rows):
            pairs = zip(job.columns, row, strict=True)
            filled = {name: cell for name, cell in pairs if cell != ""}
            try:
                record = {name: value_of(kind, name, cell) for name, cell in filled.items()}
                result = self._settle(job.closed, job, number, record)
            except (Mistyped, ValueError) as error:
                problem = {"statusCode": "INVALID_TYPE_ON_FIELD_IN_RECORD", "message": str(error),
                           "fields": []}  # fmt: skip
                result = {"success": False, "errors": [problem]}
            results.append(result)
        job.end("JobComplete", results)

    # -- routes

    def create(self, call: Call) -> Answer:
        wanted = msgspec.json.decode(call.body, type=Wanted)
        known = FIELDS.get(wanted.object, {})
        key = known.get(wanted.externalIdFieldName)
        if not known or wanted.operation not in OPERATIONS:
            raise Refused(errors(400, "INVALIDJOB", f"no such object: {wanted.object}"))
        if wanted.operation == "upsert" and (key is None or not key.external_id):
            raise Refused(errors(400, "INVALIDJOB", "externalIdFieldName is no external id"))
        job = Job(next(self._numbers), wanted, call.at_ms)
        self.jobs[job.id] = job
        return Answer(200, job.about())

    def fill(self, call: Call, name: str) -> Answer:
        job = self._get(name, "Open")
        if not call.headers.get("Content-Type", "").startswith("text/csv"):
            raise Refused(errors(415, "UNSUPPORTED_MEDIA_TYPE", "Content type must be text/csv"))
        try:
            table = list(csv.reader(io.StringIO(call.body.decode(), newline=""), strict=True))
        except (csv.Error, ValueError):
            table = []
        if not table or any(len(row) != len(table[0]) for row in table):
            raise Refused(errors(400, "INVALIDJOB", "not the CSV that was announced"))
        job.columns, job.rows = table[0], table[1:]
        return Answer(201)

    def change(self, call: Call, name: str) -> Answer:
        job = self._get(name, "Open", "UploadComplete")
        match msgspec.json.decode(call.body, type=Change).state:
            case "UploadComplete" if job.state == "Open":
                job.state, job.closed = "UploadComplete", call
                job.due_ms = call.at_ms + int(self.job_s * 1000)
                self._closed.append(job)
            case "Aborted":
                job.end("Aborted")
            case _:
                raise Refused(errors(400, "INVALIDJOBSTATE", f"the job is {job.state}"))
        return Answer(200, job.about())

    def show(self, call: Call, name: str) -> Answer:
        return Answer(200, self._get(name).about())

    def results(self, call: Call, name: str, which: str) -> Answer:
        job = self._get(name, "JobComplete", "Failed", "Aborted")
        return Answer(200, job.files[which], {"Content-Type": "text/csv"})

    def delete(self, call: Call, name: str) -> Answer:
        del self.jobs[self._get(name, "UploadComplete", "JobComplete", "Failed", "Aborted").id]
        return Answer(204)

    def _get(self, name: str, *states: str) -> Job:
        job = self.jobs.get(name)
        if job is None:
            raise Refused(errors(404, "NOT_FOUND", "The requested resource does not exist"))
        if states and job.state not in states:
            raise Refused(errors(400, "INVALIDJOBSTATE", f"the job is {job.state}"))
        return job
