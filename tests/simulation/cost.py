"""`python -m tests.simulation.cost`: CPU of the steps, a record, without Avro and without Kafka.

20,000 fetched contacts, each with an address of its own, in chunks of 1,000: asked, answered,
shaped for one destination, written. The mapping is a real document of four fields.
"""

import gc
import json
import time
from collections.abc import Callable
from typing import Any

from mappings.document import load
from schemas import ids
from schemas.commands import UploadBatch
from schemas.events import Origin, PlatformEvent
from schemas.outcomes import OutcomeKind, RecordOutcome
from streams.steps.addresses import Addresses
from streams.steps.catalog import Catalog
from streams.steps.links import Links
from streams.steps.mapped import Checked
from streams.steps.outputs import Send
from streams.steps.people import INDEX, People
from tests.simulation.definitions import CONNECTIONS, SYNCS
from tests.simulation.log import Overlay

RECORDS = 20_000
CHUNK = 1_000
RUN = ids.run_id("leads", "20260101")
DOCUMENT = {
    "mapping": "leads", "version": 1, "from": {"platform": "hubspot", "object": "contact"},
    "to": {"platform": "salesforce", "object": "Lead", "key": "Email"},
    "where": "!empty(record.email)",
    "fields": {
        "Email": "lower(record.email)", "LastName": "record.lastname", "Phone": "record.phone",
        "Company": "record.company",
    },
}  # fmt: skip


def contact(number: int) -> PlatformEvent:
    values = json.dumps({
        "email": f"person{number}@example.com", "lastname": f"Name{number}",
        "phone": "+49 30 1234567", "company": "ACME Corporation",
    }).encode()  # fmt: skip
    key = ids.object_key("hub", "contact", str(number))
    return PlatformEvent(
        event_id=ids.fetched_event_id(RUN, key, values), connection="hub", platform="hubspot",
        object_type="contact", object_id=str(number), origin=Origin.fetch, run=RUN,
        record_no=number, occurred_ms=1_700_000_000_000 + number,
        received_ms=1_700_000_100_000 + number, values=values, payload=values,
    )  # fmt: skip


def told(sends: list[Send], start: Callable[[], Any]) -> list[Send]:
    """Every message through the step, in chunks -> what it sent."""
    out: list[Send] = []
    for first in range(0, len(sends), CHUNK):
        chunk = start()
        for send in sends[first : first + CHUNK]:
            chunk.take(send.key, send.message)
        out += chunk.close()
    return out


def main() -> None:
    catalog = Catalog(
        connections=CONNECTIONS, syncs={("leads", 1): SYNCS["leads"]},
        active={"sync:leads": 1, "mapping:leads": 1},
        compiled=lambda *_: Checked(load(DOCUMENT)),
    )  # fmt: skip
    links, owners, people = Overlay({}), Overlay({}), Overlay({})
    events = [Send("", e.object_key, e) for e in map(contact, range(RECORDS))]
    gc.disable()

    def timed(name: str, sends: list[Send], start: Callable[[], Any]) -> list[Send]:
        began_s = time.process_time()
        out = told(sends, start)
        print(f"{name:24} {(time.process_time() - began_s) / RECORDS * 1e6:6.1f} us")
        return out

    asked = timed("admit, asks", events, lambda: Links(links, catalog))
    answers = timed("addresses", asked, lambda: Addresses(owners))
    resolved = timed("admit, answered", answers, lambda: Links(links, catalog))
    commands = timed("shape", resolved, lambda: People(people, catalog, 0))
    rows = [r for s in commands if isinstance(s.message, UploadBatch) for r in s.message.rows]
    outcomes = [
        Send("", row.person, RecordOutcome(
            row_id=row.row_id, person=row.person, connection="sales", object_type="Lead",
            sync="leads", run=RUN, kind=OutcomeKind.written, object_id=f"00Q{n:015}",
            at_ms=1_700_000_200_000,
        ))
        for n, row in enumerate(rows)
    ]  # fmt: skip
    assert len(outcomes) == RECORDS
    timed("settle", outcomes, lambda: People(people, catalog, 0))
    size = sum(len(v or b"") for k, v in people.changed.items() if k != INDEX)
    print(f"{'row of a person':24} {size / RECORDS:6.0f} bytes")


if __name__ == "__main__":
    main()
