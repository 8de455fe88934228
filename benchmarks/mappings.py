"""What a mapped record costs: CPU microseconds a record, best of seven, nothing else measured.

python -m benchmarks.mappings [--records N]
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

from mappings.document import load
from mappings.fields import DestinationField, FieldList, check_row

RECORD: dict[str, Any] = {
    "email": " Ann.Example@Example.COM", "firstname": "Ann", "lastname": "O'Neil",
    "company": "ACME GmbH", "phone": "030 1234567", "country": "Germany", "city": "Berlin",
    "jobtitle": "Head of Everything", "numberofemployees": "250", "lifecyclestage": "lead",
    "hs_analytics_source": "PAID_SEARCH", "createdate": "2026-01-31T23:30:00Z",
    **{f"property_{i}": f"value {i}" for i in range(28)},
}  # fmt: skip
FIELDS: dict[str, Any] = {
    "Email": "email_normalise(record.email)",
    "FirstName": "trim(record.firstname)",
    "LastName": {"value": "trim(record.lastname)", "default": "[not provided]"},
    "Company": {"value": "trim(record.company)", "default": "[not provided]"},
    "Phone": {"value": "phone_e164(record.phone, record.country)", "if_error": "skip"},
    "Title": "truncate(record.jobtitle, 128)",
    "City": "record.city",
    "Country": "country_code(record.country)",
    "NumberOfEmployees": {"value": "to_int(record.numberofemployees)", "if_error": "skip"},
    "LeadSource": (
        'empty(record.hs_analytics_source) ? "Marketing Site" '
        ': lookup("lead_source", record.hs_analytics_source)'
    ),
    "Status": 'record.lifecyclestage == "customer" || record.lifecyclestage == "evangelist" '
    '? "Closed - Converted" : "Open - Not Contacted"',
    "Since__c": 'date_format(record.createdate, "YYYY-MM-DD", "Europe/Berlin")',
}
DOCUMENT: dict[str, Any] = {
    "mapping": "bench", "version": 1, "from": {"platform": "hubspot", "object": "contact"},
    "to": {"platform": "salesforce", "object": "Lead"}, "where": "!empty(record.email)",
    "fields": FIELDS, "tables": {"lead_source": {"PAID_SEARCH": "Paid Search", "*": "Other"}},
}  # fmt: skip


def best_us(call: Callable[[], object], times: int) -> float:
    """CPU microseconds a call, the best of seven rounds."""
    rounds: list[float] = []
    for _ in range(7):
        started = time.process_time()
        for _ in range(times):
            call()
        rounds.append(time.process_time() - started)
    return min(rounds) / times * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=20_000)
    records = parser.parse_args().records
    compiled = load(DOCUMENT)
    known = FieldList(
        platform="salesforce",
        object="Lead",
        fields=[
            DestinationField(name=n, type="integer" if n == "NumberOfEmployees" else "text")
            for n in FIELDS
        ],
    ).by_name()
    result: Any = compiled.apply(RECORD, {}, {})
    print(f"mapped, {len(FIELDS)} fields and a filter, of {len(RECORD)} properties")
    print(f"  {best_us(lambda: compiled.apply(RECORD, {}, {}), records):6.2f} µs a record")
    print(f"  {best_us(lambda: check_row(result.fields, known), records):6.2f} µs to check the row")
    print(f"  {best_us(lambda: load(DOCUMENT), 50) / 1000:6.2f} ms to load the document")
    for rule in compiled.rules:
        call = rule.expression.call
        print(f"  {best_us(lambda call=call: call(RECORD, {}, {}), records):6.2f} µs {rule.field}")


if __name__ == "__main__":
    main()
