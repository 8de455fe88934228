"""Google says 204 to everything: what it would drop is parked by its published rules; reports."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pytest
from joserfc.jwk import RSAKey
from pydantic import SecretStr, ValidationError

from connectors.base import ByIds, ByKeys, Changes, FieldsOf, Page, PlatformError, Row
from connectors.http import Call, HttpClient, Trail, trail
from connectors.oauth import Secrets
from connectors.outcome import Accepted, Halted, Outcome, Parked, Retry, Throttled, TooLarge
from connectors.platforms.ga4 import GA4, GA4Config
from connectors.platforms.ga4_rules import wrong
from ratelimits.limiter import Limiter
from ratelimits.registry import load
from simulators import ga4 as simulated

NOW_MS = 1_764_000_000_000
STREAM = {"measurement_id": "G-TEST123", "property_id": "123456789"}
WRITES = {"api_secret": SecretStr("ga4-api-secret")}
READS = {
    "client_id": SecretStr("ga4-client"),
    "client_secret": SecretStr("ga4-secret"),
    "refresh_token": SecretStr("ga4-refresh"),
}


@asynccontextmanager
async def connected(
    there: simulated.GA4, secrets: Mapping[str, SecretStr] = WRITES, **options: Any
) -> AsyncIterator[GA4]:
    async with there.serve() as url:
        http = HttpClient(url)
        try:
            yield GA4(GA4Config.model_validate({**STREAM, **options}), secrets, http)
        finally:
            await http.close()


def row(n: int = 1, at_ms: int = 0, **fields: Any) -> Row:
    base = {"client_id": "1.2", "name": "lead_made"}
    named = {name.replace("__", "."): value for name, value in fields.items()}
    return Row(f"row-{n}", f"person-{n}", "", {**base, **named}, at_ms)


def body_of(app: bool = False, at_ms: int = NOW_MS, **fields: Any) -> dict[str, Any]:
    options = {"firebase_app_id": "1:2:web:3"} if app else {"measurement_id": "G-1"}
    connector = GA4(GA4Config.model_validate(options), WRITES, HttpClient("http://127.0.0.1:9"))
    return connector.map_fields("event", row(at_ms=at_ms, **fields))


def test_an_event_has_googles_shape() -> None:
    assert body_of(
        user_id=7,
        params__value=3,
        params__gone=None,
        user_properties__plan="pro",
        consent__ad_user_data="DENIED",
    ) == {
        "client_id": "1.2",
        "user_id": "7",
        "user_properties": {"plan": {"value": "pro"}},
        "consent": {"ad_user_data": "DENIED"},
        "events": [
            {"name": "lead_made", "params": {"value": 3}, "timestamp_micros": NOW_MS * 1000}
        ],
    }


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"client_id": None}, "missing", "client_id"),
        ({"client_id": ""}, "missing", "client_id"),
        ({"app_instance_id": "x"}, "not_here", "app_instance_id"),
        ({"user_id": "x" * 257}, "too_long", "user_id"),
        ({"name": None}, "missing", "name"),
        ({"name": "a" * 41}, "name_too_long", "name"),
        ({"name": "1st"}, "name_invalid", "name"),
        ({"name": "lead made"}, "name_invalid", "name"),
        ({"name": "bezahlt_für"}, "name_invalid", "name"),
        ({"name": "session_start"}, "name_reserved", "name"),
        ({"name": "ga_lead"}, "name_reserved", "name"),
        ({"name": "_lead"}, "name_reserved", "name"),
        ({"params__firebase_x": 1}, "name_reserved", "params.firebase_x"),
        ({"params__x y": 1}, "name_invalid", "params.x y"),
        ({f"params__p{n}": n for n in range(26)}, "too_many", ""),
        ({"params__x": "x" * 101}, "value_too_long", "params.x"),
        ({"params__page_title": "x" * 301}, "value_too_long", "params.page_title"),
        ({"params__x": ["a"]}, "value_invalid", "params.x"),
        ({"params__items": {"item_id": 1}}, "value_invalid", "params.items"),
        ({"params__items": [{}] * 201}, "too_many", "params.items"),
        ({"params__items": [{f"own{n}": 1 for n in range(11)}]}, "too_many", "params.items"),
        ({"params__items": [{"item_name": "x" * 101}]}, "value_too_long", "params.items"),
        ({"user_properties__user_id": "x"}, "name_reserved", "user_properties.user_id"),
        ({"user_properties__" + "x" * 25: "x"}, "name_too_long", f"user_properties.{'x' * 25}"),
        ({"user_properties__plan": "x" * 37}, "value_too_long", "user_properties.plan"),
        ({f"user_properties__p{n}": n for n in range(26)}, "too_many", ""),
        ({"consent__ad_user_data": "yes"}, "consent", "consent.ad_user_data"),
        ({"consent__analytics": "GRANTED"}, "consent", "consent.analytics"),
        ({"email": "a@b.co"}, "not_here", "email"),
        ({"traits__plan": "pro"}, "not_here", "traits.plan"),
        ({"consent": "GRANTED"}, "not_here", "consent"),
        ({"at_ms": NOW_MS - 72 * 3_600_000 - 1_000}, "too_old", ""),
        ({"at_ms": NOW_MS + 301_000}, "in_future", ""),
    ],
)
def test_a_broken_rule_has_its_name(fields: dict[str, Any], code: str, field: str) -> None:
    refused = wrong(body_of(**fields), NOW_MS, app=False, long=False)
    assert refused is not None
    assert (refused.code, refused.field) == (code, field)
    assert refused.words


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"name": "a" * 40, "params__" + "p" * 40: "x" * 100},
        {"params__page_location": "x" * 1_000, "params__page_referrer": "x" * 420},
        {"params__items": [{"item_id": "1", "price": 3.5, **{f"own{n}": 1 for n in range(10)}}]},
        {"user_properties__" + "x" * 24: "x" * 36, "user_id": "x" * 256},
        {"consent__ad_user_data": "GRANTED", "consent__ad_personalization": "DENIED"},
        {"at_ms": NOW_MS - 72 * 3_600_000},
        {"at_ms": NOW_MS + 299_000},
        {"at_ms": 0},
        {f"params__p{n}": n for n in range(25)},
    ],
)
def test_what_just_fits_is_right(fields: dict[str, Any]) -> None:
    assert wrong(body_of(**fields), NOW_MS, app=False, long=False) is None


def test_apps_and_360_have_rules_of_their_own() -> None:
    app = body_of(app=True, client_id=None, app_instance_id="x", name="click")
    assert wrong(app, NOW_MS, app=True, long=False) is None
    screen = body_of(app=True, client_id=None, app_instance_id="x", name="screen_view")
    refused = wrong(screen, NOW_MS, app=True, long=False)
    assert refused is not None
    assert refused.code == "name_reserved"
    long = body_of(params__x="x" * 500)
    assert wrong(long, NOW_MS, app=False, long=True) is None
    assert wrong(long, NOW_MS, app=False, long=False) is not None


def test_only_events_of_one_client_share_a_request() -> None:
    together = GA4.spec.objects["event"].together
    assert together(row(1, params__x=1)) == together(row(2, params__x=2, name="other"))
    apart = [
        {"client_id": "9.9"},
        {"user_id": "u"},
        {"user_properties__plan": "pro"},
        {"consent__ad_user_data": "DENIED"},
    ]
    kinds = {together(row(1)), *(together(row(1, **fields)) for fields in apart)}
    assert len(kinds) == len(apart) + 1
    assert together(row(1, user_properties__x=["a"]))  # also of what will be parked


async def test_events_arrive_with_their_times() -> None:
    there = simulated.GA4()
    now_ms = time.time_ns() // 1_000_000
    async with connected(there) as ga4:
        rows = [row(n, now_ms - n * 1000, params__n=n) for n in range(1, 26)]
        assert await ga4.upload_batch("event", rows) == [Accepted()] * 25
    events = [event.values for event in there.store.alive()]
    assert [event["at_ms"] for event in events] == [now_ms - n * 1000 for n in range(1, 26)]
    assert there.rows == {"written": 25}
    assert there.requests == 1


async def test_a_bad_event_goes_nowhere_and_spares_the_others() -> None:
    there = simulated.GA4()
    async with connected(there) as ga4:
        rows = [row(1), row(2, params__x="x" * 101), row(3)]
        outcomes = await ga4.upload_batch("event", rows)
    assert [type(outcome) for outcome in outcomes] == [Accepted, Parked, Accepted]
    assert there.rows == {"written": 2}


async def test_more_than_130_kb_are_not_sent() -> None:
    there = simulated.GA4()
    fields = {f"params__p{n}": "é" * 100 for n in range(25)}
    items = [{"item_name": "é" * 100} for _ in range(20)]
    rows = [row(n, **{**fields, "params__p0": None, "params__items": items}) for n in range(25)]
    async with connected(there) as ga4:
        outcomes = await ga4.upload_batch("event", rows)
    assert isinstance(outcomes[0], TooLarge)
    assert all(outcome is outcomes[0] for outcome in outcomes)
    assert there.requests == 0


async def test_the_validation_server_may_be_asked_first() -> None:
    """It records nothing. Where it is not there, the batch goes out all the same."""
    there = simulated.GA4()
    async with connected(there, ask_first=True) as ga4:
        assert await ga4.upload_batch("event", [row(1)]) == [Accepted()]
        assert there.statuses == {"POST 200": 1, "POST 204": 1}
        body = {"validationMessages": [
            {"fieldPath": "events", "description": "no", "validationCode": "NAME_INVALID"}
        ]}  # fmt: skip
        there.script.add([{"path": "/debug/", "action": "status", "status": 200, "body": body,
                           "count": 1}])  # fmt: skip
        outcomes = await ga4.upload_batch("event", [row(2), row(3)])
        assert outcomes == [Parked("NAME_INVALID", "no", "events")] * 2
        assert outcomes[0] is outcomes[1]
        there.script.add([{"path": "/debug/", "action": "lose_before"}])
        assert await ga4.upload_batch("event", [row(4)]) == [Accepted()]
    assert there.rows == {"written": 2}


async def test_without_stream_or_secret_nothing_is_sent_for_nothing() -> None:
    there = simulated.GA4()
    for secrets, options in ((READS, {}), (WRITES, {"measurement_id": ""})):
        async with connected(there, secrets, **options) as ga4:
            (outcome,) = await ga4.upload_batch("event", [row()])
            assert isinstance(outcome, Halted)
    assert there.requests == 0


async def test_reports_are_only_read() -> None:
    there = simulated.GA4()
    async with connected(there) as ga4:
        (outcome,) = await ga4.upload_batch("report", [row()])
        assert isinstance(outcome, Parked)
        with pytest.raises(PlatformError):
            await ga4.fetch_records(ByKeys("report", "date", ("x",)))
        with pytest.raises(PlatformError) as caught:
            await ga4.fetch_records(Changes("report", ""))
        assert isinstance(ga4.handle_error(caught.value), Halted)
    assert there.requests == 0


@pytest.mark.parametrize(
    "options",
    [
        {"measurement_id": "", "property_id": ""},
        {"firebase_app_id": "1:2"},
        {"dimensions": ("country", "date")},
        {"dimensions": ("date", *"abcdefghi")},
        {"metrics": ()},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GA4Config.model_validate({**STREAM, **options})


# --- reading -------------------------------------------------------------------------------------

TODAY = datetime.now(UTC).date()
SINCE = TODAY - timedelta(days=4)
SHAPE = {"dimensions": ("date", "country"), "metrics": ("eventCount", "value"), "since": SINCE}
COUNTRIES = ("Germany", "a/b", "ä|b")


def reported() -> list[dict[str, Any]]:
    return [
        {"date": (SINCE + timedelta(days=n)).strftime("%Y%m%d"), "country": country,
         "eventCount": n + 1, "value": 1.5}
        for n in (0, 2, 3, 4)
        for country in COUNTRIES
    ]  # fmt: skip


async def pages(ga4: GA4, cursor: str = "", rows_max: int = 2) -> list[Page]:
    read: list[Page] = []
    while len(read) < 50:
        read.append(await ga4.fetch_records(Changes("report", cursor, rows_max=rows_max)))
        cursor = read[-1].cursor
        if read[-1].last:
            return read
    raise AssertionError("no end")


def records(read: list[Page]) -> dict[str, Any]:
    return {r.object_id: msgspec.json.decode(r.values) for page in read for r in page.records}


async def test_days_are_read_to_the_last_and_any_cursor_resumes() -> None:
    async with connected(simulated.GA4(reported()), READS, **SHAPE) as ga4:
        read = await pages(ga4)
        whole = records(read)
        assert len(whole) == 12
        assert sum(len(page.records) for page in read) == 12
        first = SINCE.strftime("%Y%m%d")
        assert whole[f"{first}/a%2Fb"] == {
            "date": first, "country": "a/b", "eventCount": 1, "value": 1.5,
        }  # fmt: skip
        for done in range(1, len(read)):
            rest = await pages(ga4, read[done - 1].cursor)
            assert {**records(read[:done]), **records(rest)} == whole


async def test_the_last_days_are_read_again_as_they_changed() -> None:
    there = simulated.GA4(reported())
    async with connected(there, READS, days_again=2, **SHAPE) as ga4:
        read = await pages(ga4)
        assert read[-1].cursor == f"{TODAY - timedelta(days=1)}|0"
        late = {"date": TODAY.strftime("%Y%m%d"), "country": "Germany", "eventCount": 100}
        there.perform([late])
        again = records(await pages(ga4, read[-1].cursor))
    assert len(again) == 6
    assert again[f"{TODAY:%Y%m%d}/Germany"]["eventCount"] == 105


async def test_one_row_is_found_by_its_id() -> None:
    async with connected(simulated.GA4(reported()), READS, **SHAPE) as ga4:
        wanted = list(records(await pages(ga4)).items())
        for object_id, values in wanted:
            page = await ga4.fetch_records(ByIds("report", (object_id,)))
            assert records([page]) == {object_id: values}
        gone = ByIds("report", (f"{SINCE:%Y%m%d}/Nowhere",))
        assert not (await ga4.fetch_records(gone)).records


async def test_what_a_report_says_of_its_quotas_corrects_the_limiter() -> None:
    """Somebody else spent nearly all of the hour's tokens: we leave them alone."""
    there = simulated.GA4(reported())

    async def nobody_inherits(_: str) -> None: ...

    limiter = Limiter(load("ga4"), write_lease=nobody_inherits)
    group = GA4.spec.objects["report"].read_quota

    def answered(call: Call) -> None:
        limiter.observe(group, call.headers)

    for _ in range(14_000 - 30):
        there.project.take(there.clock.now())
    async with connected(there, READS, **SHAPE) as ga4:
        with trail(Trail(answered=answered)):
            await ga4.fetch_records(Changes("report", ""))
    left = {view.window: view.left for view in limiter.view()}
    assert (left["tokens_project_hour"], left["tokens_day"]) == (20, 199_990)
    await limiter.close()


async def test_the_names_of_a_report() -> None:
    async with connected(simulated.GA4(), READS) as ga4:
        names = {found.object_id for found in (await ga4.fetch_records(FieldsOf("report"))).records}
        assert {"date", "country", "eventCount"} <= names
        events = (await ga4.fetch_records(FieldsOf("event"))).records
        assert "params.transaction_id" in {found.object_id for found in events}


def key_file() -> tuple[str, str]:
    """(a service account's key file, its public key)"""
    key = RSAKey.generate_key(2048)
    said = {"client_email": "a@b.iam", "private_key": key.as_pem(private=True).decode()}
    return msgspec.json.encode(said).decode(), key.as_pem(private=False).decode()


async def test_a_service_account_logs_in_and_again_when_its_token_ends() -> None:
    text, public = key_file()
    there = simulated.GA4(reported(), public_key=public)
    secrets = {"service_account": SecretStr(text)}
    async with connected(there, secrets, **SHAPE) as ga4:
        assert records(await pages(ga4))
        assert there.google.app.logins == 1
        there.expire_tokens()
        assert records(await pages(ga4))
        assert there.google.app.logins == 2
    other, _ = key_file()
    async with connected(there, {"service_account": SecretStr(other)}, **SHAPE) as ga4:
        with pytest.raises(PlatformError) as caught:
            await pages(ga4)
        outcome = ga4.handle_error(caught.value)
    assert isinstance(outcome, Halted)
    assert "PRIVATE" not in outcome.why


async def test_an_access_token_is_read_anew_from_where_somebody_else_renews_it(tmp_path) -> None:
    there = simulated.GA4(reported())
    file = tmp_path / "token"
    granted, _ = there.google.app.grant(
        {"grant_type": "client_credentials", "client_id": "ga4-client",
         "client_secret": "ga4-secret"}, there.clock.now(),
    )  # fmt: skip
    file.write_text("old")
    secrets = Secrets({"access_token": SecretStr("old")}, {"access_token": f"file:{file}"})
    async with connected(there, secrets, **SHAPE) as ga4:
        with pytest.raises(PlatformError) as caught:
            await pages(ga4)
        assert isinstance(ga4.handle_error(caught.value), Halted)
        file.write_text(granted)
        assert records(await pages(ga4))


@pytest.mark.parametrize(
    ("words", "window"),
    [
        ("Exhausted property tokens per day.", "tokens_day"),
        ("Exhausted property tokens per hour.", "tokens_hour"),
        ("Exhausted property tokens for a project per hour.", "tokens_project_hour"),
        ("Exhausted concurrent requests quota.", "concurrent"),
        ("Exhausted potentially thresholded requests per hour.", "thresholded_hour"),
        ("Something new.", ""),
    ],
)
def test_a_refusal_says_which_quota(words: str, window: str) -> None:
    body = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": words}}
    assert handled(PlatformError(429, body)) == Throttled(None, window)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PlatformError(403, {"error": {"status": "PERMISSION_DENIED", "message": "no"}}), Halted),
        (PlatformError(400, {"error": {"status": "INVALID_ARGUMENT", "message": "no"}}), Parked),
        (PlatformError(500, "oops"), Retry),
        (PlatformError(200, "<html>"), Retry),
        (PlatformError(0), Retry),
        (PlatformError(413, "big"), TooLarge),
    ],
)
def test_failures_are_told_apart(error: PlatformError, kind: type[Outcome]) -> None:
    assert isinstance(handled(error), kind)


def handled(error: PlatformError) -> Outcome:
    return GA4(
        GA4Config.model_validate(STREAM), WRITES, HttpClient("http://127.0.0.1:9")
    ).handle_error(error)


def test_the_first_day_is_a_date() -> None:
    assert GA4Config.model_validate({**STREAM, "since": "2026-01-01"}).since == date(2026, 1, 1)
