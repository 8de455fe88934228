"""An account that takes nothing until somebody acts: told to everybody, probed, opened again.

That it is halted stands on `handover`, so that a successor neither tries its luck with rows nor
forgets to open what somebody has mended meanwhile.
"""

from typing import TYPE_CHECKING

import msgspec
import structlog

from connectors.base import FieldsOf, PlatformError
from connectors.handover import learned_key
from connectors.http import Trail, trail
from connectors.lanes import Place
from connectors.outcome import Halted, Outcome, Retry, Throttled
from connectors.registry import Misconfigured
from connectors.settling import Send, wall_ms
from schemas.commands import Priority
from schemas.handover import Learned
from schemas.outcomes import AccountState
from schemas.topics import HANDOVER, outcomes_of

if TYPE_CHECKING:
    from connectors.account import Account

__all__ = ["halt", "inherit", "learned", "probe", "reopen"]

log = structlog.get_logger("connectors")


def halt(account: "Account", why: str, *, misconfigured: bool) -> None:
    """Close it, tell everybody, give back what waits. A repeat changes nothing."""
    gate = account.gate
    if gate.halted:
        return
    gate.halt(account.office.now_s(), wall_ms(), why[:300])
    gate.misconfigured = misconfigured
    log.warning("account halted", platform=account.office.platform, account=account.name, why=why)
    _announce(account, open_=False)
    account.give_back([i for i in account.rows.values() if i.place is Place.waiting])
    account.watch_gate()


def reopen(account: "Account", who: str) -> None:
    """A repeat changes nothing."""
    if not account.gate.halted:
        return
    account.gate.reopen(account.office.now_s())
    log.info("account open", platform=account.office.platform, account=account.name, because=who)
    _announce(account, open_=True)
    account.go()


def _announce(account: "Account", *, open_: bool) -> None:
    """To every partition of persons, and to whoever owns the account next."""
    office, sends = account.office, list[Send]()
    for connection in sorted(account.connections):
        state = AccountState(
            account=account.name, connection=connection, open=open_, reason=account.gate.halted,
            at_ms=wall_ms(),
        )  # fmt: skip
        value = office.wire.encode(state)
        topic = outcomes_of(office.platform)
        sends += (Send(topic, value, account.name, p) for p in range(office.partitions))
    office.also([*sends, learned(account)], account.partition)


def learned(account: "Account") -> Send:
    """What a successor starts with."""
    document = {
        "rows_max": account.rows_max,
        "small": sorted(account.small),
        "halted": account.gate.halted,
        "halted_ms": account.gate.halted_ms,
        "connections": sorted(account.connections),
    }
    message = Learned(account=account.name, document=msgspec.json.encode(document))
    key = learned_key(account.office.platform, account.name)
    return Send(HANDOVER, account.office.wire.encode(message), key, account.partition)


def inherit(account: "Account", document: bytes | None) -> None:
    """What a predecessor learned."""
    if document is None:
        return
    said = msgspec.json.decode(document)
    account.rows_max = dict(said.get("rows_max", {}))
    account.small = dict.fromkeys(said.get("small", ()), 0)
    if why := said.get("halted"):
        account.connections.update(said.get("connections", ()))
        account.gate.halt(account.office.now_s(), said["halted_ms"], why)
        account.watch_gate()


async def probe(account: "Account") -> None:
    """Ask something cheap, to know whether the account answers. Reads the secrets anew, so that a
    rotated key is found."""
    office, gate = account.office, account.gate
    for name in sorted(account.connections):
        if gate.halted:
            office.refresh(name)
        try:
            client = office.client(name)
        except Misconfigured as error:
            gate.still_halted(office.now_s())
            gate.halted, gate.misconfigured = str(error), True
            return
        object_type, spec = next(iter(client.spec.objects.items()))
        async with account.limits.permit(spec.read_quota, Priority.live) as permit:
            with trail(Trail(another=permit.another, answered=permit.answered)):
                try:
                    await client.connector.fetch_records(FieldsOf(object_type))
                except PlatformError as error:
                    _probed(account, spec.read_quota, client.connector.handle_error(error))
                    return
                except Exception as error:  # noqa: BLE001 - it cannot be probed; rows will tell
                    log.error("probe failed", platform=office.platform, error=type(error).__name__)
    if gate.halted:
        account.reopen("a probe was answered")
    else:
        gate.answered(office.now_s())


def _probed(account: "Account", group: str, outcome: Outcome) -> None:
    """The answer to a probe was no good one."""
    gate, now_s = account.gate, account.office.now_s()
    if not isinstance(outcome, Retry):
        gate.heard(now_s)
    match outcome:
        case Halted(why):
            if gate.halted:
                gate.still_halted(now_s)
            else:
                account.halt(why)
        case Throttled(wait_s, window):
            account.limits.throttled(group, wait_s, window)
            gate.until_s = max(gate.until_s, now_s + (wait_s or 1.0))
        case _ if gate.halted:
            gate.still_halted(now_s)
        case Retry(why):
            gate.failed(now_s, why)
        case _:
            gate.answered(now_s)  # it answers, if not to this
