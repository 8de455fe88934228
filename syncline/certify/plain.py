"""What needs no misbehaviour: purity, quotas in the registry, silent logs."""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from structlog.testing import capture_logs

from connectors import registry
from connectors.base import ByKeys
from ratelimits.registry import load
from syncline.certify.bench import Bench
from syncline.certify.checks import check
from syncline.certify.desk import Desk
from syncline.certify.failing import SECRET

log = structlog.get_logger("syncline.certify")


@check("mapping", "a row's own shape is made by a pure function")
async def mapping_is_pure(bench: Bench) -> None:
    row, kind = bench.place.row(1), bench.place.object_type
    before = copy.deepcopy(row)
    made = bench.connector.map_fields(kind, row)
    assert made == bench.connector.map_fields(kind, row)
    assert row == before


@check("quotas", "each group of endpoints spends quotas that are in the registry")
async def quotas_are_in_the_registry(bench: Bench) -> None:
    limits = load(bench.name)
    for spec in registry.connector_class(bench.name).spec.objects.values():
        for group in {spec.write_quota, spec.read_quota, spec.asking_quota, spec.job_quota}:
            assert limits.groups[group], group
            assert set(limits.groups[group]) <= set(limits.quotas)


@check("spec", "what can be listed is an object type, and the platform is named as its file")
async def what_is_fetchable_is_an_object(bench: Bench) -> None:
    spec = registry.connector_class(bench.name).spec
    assert spec.platform == bench.name
    assert spec.fetchable <= set(spec.objects)


class _Kept(logging.Handler):
    """All log lines as text, whatever their level."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def _loudest() -> Iterator[list[str]]:
    """All that anybody logs while in here, as text, at the loudest level."""
    root, kept = logging.getLogger(), _Kept()
    level = root.level
    root.addHandler(kept)
    root.setLevel(logging.DEBUG)
    quiet = structlog.get_config()  # a command says nothing but what it has found
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    try:
        with capture_logs() as ours:
            yield kept.lines
            kept.lines += map(str, ours)
    finally:
        structlog.configure(**quiet)
        root.removeHandler(kept)
        root.setLevel(level)


@check("secrets", "no secret and no address in logs, at the loudest level")
async def nothing_secret_or_personal_in_logs(bench: Bench) -> None:
    """Over a success, refusals, a lost answer, a read by address and a refused key."""
    place = bench.place
    with _loudest() as lines:
        log.debug("listening")
        async with bench.connect(bench.url) as connector:
            for action in ("", "lose_after", "status"):
                if action:
                    bench.strike(action)
                for rows in bench.batches([place.row(0), place.bad(1)]):
                    await connector.upload_batch(place.object_type, rows)
            if "keys" in place.reads:
                request = ByKeys(place.object_type, place.address, ("person0@example.com",))
                await connector.fetch_records(request)
        async with Desk(bench) as desk:
            await desk.upload([place.row(0), place.bad(1)])
            wrong = desk.open("wrong", dict.fromkeys(place.secrets, SECRET))
            await desk.upload([place.row(2)], wrong)
    told = "\n".join(lines).replace("%40", "@")
    assert "listening" in told, "nothing was heard: the check would prove nothing"
    hidden = [value for key, value in place.secrets.items() if not key.endswith("_id")]
    words = (*hidden, SECRET, "person0@example.com", "person2@example.com", "broken1@")
    for word in (*words, "Bearer ", "Basic "):
        assert word not in told, "a secret or an address in a log"
