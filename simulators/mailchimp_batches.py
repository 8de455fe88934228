"""Batch operations of the simulated Mailchimp: calls in one, worked at a while after they came.

Behaves as https://mailchimp.com/developer/marketing/guides/run-async-requests-batch-endpoint/ says
(read 2026-11): pending, then finished, then an address where a tar.gz of JSON files lies.

Our reading where the page is silent
- a batch is worked at `job_s` seconds after it came, all of it in one moment; faults that refuse
  members are those of the call that handed it over
- a file holds five answers; the archive has an entry for its folder too
- 1,000 operations a call; 500 batches at once that are not through
"""

import io
import tarfile
from collections.abc import Callable
from typing import Any

import msgspec

from simulators.mailchimp_shapes import problem_of, stamp
from simulators.server import Answer, Call, Refused

OPERATIONS_MAX = 1_000
OPEN_MAX = 500
FILE_ANSWERS = 5


class Operation(msgspec.Struct):
    method: str
    path: str
    operation_id: str = ""
    body: str = ""


class Operations(msgspec.Struct):
    operations: list[Operation]


class Batch:
    """One of them."""

    def __init__(self, name: str, call: Call, operations: list[Operation], due_ms: int) -> None:
        self.id, self.call, self.operations, self.due_ms = name, call, operations, due_ms
        self.told: list[dict[str, Any]] = []

    @property
    def open(self) -> bool:
        return not self.told


class Batches:
    """All of an account."""

    def __init__(self, work: Callable[[Call], Answer], job_s: float) -> None:
        """`work`: answers one call."""
        self._work, self.job_s = work, job_s
        self.batches: dict[str, Batch] = {}

    def work(self, now_ms: int) -> None:
        """What is due by now."""
        for batch in self.batches.values():
            if batch.open and now_ms >= batch.due_ms:
                batch.told = [self._told(batch, said, now_ms) for said in batch.operations]

    def _told(self, batch: Batch, said: Operation, now_ms: int) -> dict[str, Any]:
        call = Call(batch.call.number, now_ms, said.method, f"/3.0{said.path}")
        call.headers, call.body = batch.call.headers, said.body.encode()
        call.struck, call.dry = batch.call.struck, batch.call.dry
        answer = self._work(call)
        response = answer.body.decode()
        return {
            "status_code": answer.status, "operation_id": said.operation_id, "response": response,
        }  # fmt: skip

    # -- routes

    def start(self, call: Call) -> Answer:
        operations = msgspec.json.decode(call.body, type=Operations).operations
        if not 0 < len(operations) <= OPERATIONS_MAX:
            words = f"from 1 to {OPERATIONS_MAX} operations"
            raise Refused(problem_of(call, 400, "Invalid Resource", words))
        if sum(batch.open for batch in self.batches.values()) >= OPEN_MAX:
            words = f"You have more than {OPEN_MAX} pending batches."
            raise Refused(problem_of(call, 429, "Too Many Requests", words))
        name = f"batch{len(self.batches) + 1:05}"
        due_ms = call.at_ms + int(self.job_s * 1000)
        self.batches[name] = batch = Batch(name, call, operations, due_ms)
        return Answer(200, self._about(call, batch))

    def read(self, call: Call, name: str) -> Answer:
        return Answer(200, self._about(call, self._get(call, name)))

    def results(self, call: Call, name: str) -> Answer:
        told = self._get(call, name).told
        return Answer(200, _archive(told), {"Content-Type": "application/gzip"})

    def _get(self, call: Call, name: str) -> Batch:
        batch = self.batches.get(name)
        if batch is None:
            words = "The requested resource could not be found."
            raise Refused(problem_of(call, 404, "Resource Not Found", words))
        return batch

    def _about(self, call: Call, batch: Batch) -> dict[str, Any]:
        place = f"http://{call.headers.get('Host', '')}/results/{batch.id}-response.tar.gz"
        return {
            "id": batch.id,
            "status": "pending" if batch.open else "finished",
            "total_operations": len(batch.operations),
            "finished_operations": len(batch.told),
            "errored_operations": sum(told["status_code"] >= 400 for told in batch.told),
            "submitted_at": stamp(batch.call.at_ms),
            "completed_at": "" if batch.open else stamp(batch.due_ms),
            "response_body_url": "" if batch.open else f"{place}?Signature=1",
        }


def _archive(told: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as files:
        folder = tarfile.TarInfo("./")
        folder.type = tarfile.DIRTYPE
        files.addfile(folder)
        for start in range(0, len(told), FILE_ANSWERS):
            body = msgspec.json.encode(told[start : start + FILE_ANSWERS])
            entry = tarfile.TarInfo(f"./{start}.json")
            entry.size = len(body)
            files.addfile(entry, io.BytesIO(body))
    return out.getvalue()
