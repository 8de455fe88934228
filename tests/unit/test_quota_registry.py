"""What platforms allow is data: complete, sourced, chosen by tier, overridden by connection."""

import json

import pytest
from pydantic import ValidationError

from ratelimits.headers import Refusal, refusal, retry_after_s
from ratelimits.registry import FOLDER, Registry, load, schema, tiers

PLATFORMS = sorted(path.stem for path in FOLDER.glob("*.json"))


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_file_says_all_of_its_platform(platform: str) -> None:
    kept = Registry.model_validate_json((FOLDER / f"{platform}.json").read_text())
    assert kept.platform == platform
    assert kept.groups
    assert kept.batches
    assert kept.refusals
    spent = {name for names in kept.groups.values() for name in names}
    assert spent == set(kept.windows), "a window that no group spends limits nothing"


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_file_is_what_its_schema_for_editors_says(platform: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    text = (FOLDER.parent / "registry.schema.json").read_text()
    assert text == schema(), "stale: write ratelimits.registry.schema() to registry.schema.json"
    jsonschema.validate(json.loads((FOLDER / f"{platform}.json").read_text()), json.loads(text))


def test_tier_and_overrides_choose_the_figure() -> None:
    assert load("hubspot").quotas["ten_seconds"].limit == 100
    assert load("hubspot", "professional").quotas["ten_seconds"].limit == 190
    assert load("hubspot", "professional", {"ten_seconds": 50}).quotas["ten_seconds"].limit == 50
    assert load("hubspot", "no such tier").quotas["ten_seconds"].limit == 100
    assert "day" not in load("hubspot", "", {"day": 0}).quotas
    assert "day" not in load("hubspot", "oauth").quotas
    assert load("hubspot", "oauth").groups["write"] == ["ten_seconds"]
    assert load("hubspot", "oauth", {"day": 5}).quotas["day"].limit == 5
    day = load("hubspot", "", {"day": {"zone": "Europe/Berlin"}}).quotas["day"]
    assert (day.limit, day.zone) == (250_000, "Europe/Berlin")
    ten = load("hubspot", "", {"ten_seconds": {"limit": 7, "window_s": 2}}).quotas["ten_seconds"]
    assert (ten.limit, ten.window_s) == (7, 2.0)


def test_limits_are_scaled_and_taken_away_for_a_demonstration() -> None:
    assert load("hubspot", scale=10).quotas["ten_seconds"].limit == 1000
    assert load("hubspot", "", {"scale": 0.001}).quotas["search_second"].limit == 1
    assert load("mailchimp", scale=10).quotas["connections"].limit == 10
    free = load("hubspot", "", {"unlimited": True})
    assert (free.quotas, free.headers) == ({}, [])
    assert free.rows_per_s("write", 100) == 0


def test_tiers_are_those_of_its_windows() -> None:
    assert tiers("ga4") == ["360", "standard"]
    assert tiers("segment") == []
    assert load("ga4", "360").quotas["tokens_day"].limit == 2_000_000
    with pytest.raises(FileNotFoundError):
        tiers("nobody")


def test_a_limit_that_is_not_published_is_none_until_a_connection_sets_one() -> None:
    assert load("segment").groups["read"] == []
    assert load("segment").headers == []
    set_ = load("segment", "", {"public": 600})
    assert (set_.groups["read"], set_.quotas["public"].limit) == (["public"], 600)
    assert [rule.header for rule in set_.headers] == ["x-ratelimit-remaining"]


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        ({"minute": 5}, KeyError, "it has ten_seconds"),
        ({"day": -1}, ValidationError, "greater than or equal to 0"),
        ({"day": "many"}, ValidationError, "integer"),
        ({"day": {"limits": 5}}, ValidationError, "limits"),
        ({"day": {"zone": "Mars/Olympus"}}, ValidationError, "Mars/Olympus"),
        ({"scale": "fast"}, ValueError, "fast"),
        ({"scale": 0}, ValueError, "scale"),
    ],
)
def test_what_makes_no_sense_is_said(overrides, error, words) -> None:
    with pytest.raises(error, match=words):
        load("hubspot", "", overrides)


def test_a_file_that_contradicts_itself_is_refused() -> None:
    good = json.loads((FOLDER / "hubspot.json").read_text())
    for break_it in (
        lambda d: d["groups"].update(write=["minute"]),
        lambda d: d["windows"]["day"].update(window_s=5),
        lambda d: d["windows"]["ten_seconds"].update(window_s=0),
        lambda d: d["windows"]["day"]["limit"].pop("default"),
        lambda d: d["windows"]["day"].pop("source"),
        lambda d: d["windows"]["day"].update(read_on="lately"),
        lambda d: d["headers"].append({"window": "hour", "header": "x"}),
        lambda d: d.update(costs={"wrote": 5}),
        lambda d: d.update(costs={"write": 0}),
    ):
        bad = json.loads(json.dumps(good))
        break_it(bad)
        with pytest.raises(ValidationError):
            Registry.model_validate(bad)


def test_what_a_group_carries_in_steady_state() -> None:
    assert load("hubspot", "professional").rows_per_s("write", 100) == 1900
    assert load("hubspot").rows_per_s("search", 200) == 1000
    assert load("mailchimp").rows_per_s("write", 500, latency_s=0.5) == 10_000


HUBSPOT_429 = {"status": "error", "errorType": "RATE_LIMIT", "policyName": "DAILY"}
SALESFORCE_403 = [
    {"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "TotalRequests Limit exceeded."}
]
CONCURRENT = [{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "ConcurrentRequests limit"}]

SEGMENT_429 = {
    "errors": [
        {"type": "RequestError", "message": "Too many requests",
         "data": {"remainingPoints": 0, "msBeforeNext": 57647, "consumedPoints": 21}}
    ]
}  # fmt: skip


def ga4_429(message: str) -> dict[str, object]:
    return {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": message}}


@pytest.mark.parametrize(
    ("platform", "status", "headers", "body", "expected"),
    [
        ("hubspot", 429, {"retry-after": "7"}, HUBSPOT_429, Refusal("day", 7.0)),
        ("hubspot", 429, {}, {"policyName": "TEN_SECONDLY_ROLLING"}, Refusal("ten_seconds", None)),
        ("hubspot", 429, {}, "<html>", Refusal("", None)),
        ("hubspot", 400, {}, HUBSPOT_429, None),
        ("salesforce", 403, {}, SALESFORCE_403, Refusal("day", None)),
        ("salesforce", 403, {}, CONCURRENT, Refusal("long", None)),
        ("salesforce", 403, {}, [{"errorCode": "INSUFFICIENT_ACCESS"}], None),
        ("salesforce", 403, {}, [], None),
        ("mailchimp", 429, {}, {"title": "Too Many Requests"}, Refusal("connections", None)),
        ("mailchimp", 403, {}, "Forbidden", Refusal("connections", None)),
        ("mailchimp", 403, {}, {"title": "User Disabled"}, None),
        ("segment", 429, {"retry-after": "3"}, {}, Refusal("tracking", 3.0)),
        ("segment", 429, {}, SEGMENT_429, Refusal("public", 57.647)),
        (
            "segment",
            429,
            {"x-ratelimit-reset": "Thu, 01 Jan 1970 00:01:40 GMT"},
            {"errors": [{"type": "RequestError", "data": {}}]},
            Refusal("public", 100.0),
        ),
        ("segment", 429, {}, {"error": {"code": "rate_limit_error"}}, Refusal("profiles", None)),
        ("segment", 200, {}, {"success": True}, None),
        (
            "ga4",
            429,
            {},
            ga4_429("Exhausted property tokens per day."),
            Refusal("tokens_day", None),
        ),
        (
            "ga4",
            429,
            {},
            ga4_429("tokens for a project per hour"),
            Refusal("tokens_project_hour", None),
        ),
        (
            "ga4",
            429,
            {},
            ga4_429("Exhausted concurrent requests quota."),
            Refusal("concurrent", None),
        ),
        ("ga4", 403, {}, ga4_429("per day"), None),
    ],
)
def test_each_platforms_own_way_to_refuse(platform, status, headers, body, expected) -> None:
    assert refusal(load(platform), status, headers, body, 0.0) == expected


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("12", 12.0), ("0", 0.0), ("1.5", 1.5), ("Thu, 01 Jan 1970 00:01:40 GMT", 100.0),
        ("Wed, 31 Dec 1969 00:00:00 GMT", 0.0), ("soon", None), ("", None), ("-3", None),
        ("inf", None), ("nan", None),
    ],
)  # fmt: skip
def test_retry_after_in_all_its_forms(text: str, wait_s: float | None) -> None:
    assert retry_after_s(text, 0.0) == wait_s
