"""Definitions that unit tests of steps and the simulation share: one source, three destinations.

Contacts of `hub` become leads at `sales` (merge), members at `mail` (pass), there also facts and
subscribers, whose consent counts, and those of a list; a second sync feeds contacts of another
portal, `hub2`, to `sales` too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.definitions import Audience, Connection, Identify, Policy, Sync
from schemas.events import PlatformEvent
from streams.steps.catalog import Catalog, FieldError, Flow, Shaped

EMAIL = {"contact": Identify(field="email")}
CONNECTIONS = {
    "hub": Connection(connection="hub", platform="hubspot", account="p1", identify=EMAIL),
    "hub2": Connection(connection="hub2", platform="hubspot", account="p2", identify=EMAIL),
    "sales": Connection(connection="sales", platform="salesforce", account="o1"),
    "mail": Connection(connection="mail", platform="mailchimp", account="m1"),
}


def sync(name: str, source: str, destination: str, kind: str, **more: Any) -> Sync:
    return Sync(
        sync=name, source=source, source_object="contact", destination=destination,
        destination_object=kind, mapping=name, **more,
    )  # fmt: skip


SYNCS = {
    "leads": sync("leads", "hub", "sales", "Lead", match="Email"),
    "leads2": sync("leads2", "hub2", "sales", "Lead", match="Email", policy=Policy.hold),
    "news": sync("news", "hub", "mail", "member", match="email_address", policy=Policy.pass_),
    "visits": sync("visits", "hub", "mail", "visit"),
    "letters": sync(
        "letters",
        "hub",
        "mail",
        "subscriber",
        match="email_address",
        kinds={
            "unsubscribed": {"STATUS": "unsubscribed"},
            "bounced": {"STATUS": "cleaned"},
            "subscribed": {"STATUS": "subscribed"},
        },
    ),
    "vips": sync(
        "vips", "hub", "mail", "vip", match="email_address",
        audience=Audience(joined={"RATING": "hot"}, left={"RATING": "cold"}),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Mapped:
    """A mapping in Python: destination field to (source field, function)."""

    title: str
    key: str
    made: Mapping[str, tuple[str, Callable[[Any], Any]]]
    where: str = ""
    """Source field that must not be empty."""
    required: tuple[str, ...] = ()
    reads: Mapping[str, frozenset[str]] = field(default_factory=dict)
    inputs: frozenset[str] = frozenset()

    def shape(self, values: Mapping[str, Any], event: PlatformEvent, person: str) -> Shaped:
        if self.where and values.get(self.where) in (None, "", "no"):
            return Shaped(None, why=f"{self.where} is empty")
        fields = {to: make(values.get(source)) for to, (source, make) in self.made.items()}
        for name in self.required:
            if not fields.get(name):
                return Shaped(fields, (FieldError("validate", name, "required", "is empty"),))
        if values.get("phone") == "unmappable":
            error = FieldError("map", "Phone", "phone_e164", "'unmappable' is no phone number")
            return Shaped(fields, (error,))
        return Shaped(fields)


def mapped(
    title: str, key: str, made: Mapping[str, Any], where: str = "", *required: str
) -> Mapped:
    reads = {to: frozenset((source,)) for to, (source, _) in made.items()}
    inputs = frozenset().union(*reads.values(), {where} if where else set())
    return Mapped(title, key, made, where, required, reads, inputs)


def _same(value: Any) -> Any:
    return value


def _upper(value: Any) -> Any:
    return str(value).upper() if value else None


def _subscribed(value: Any) -> Any:
    """What many a mapping says, whoever has said no."""
    return "subscribed"


LEAD = {
    "Email": ("email", _same), "LastName": ("lastname", _upper), "Phone": ("phone", _same),
    "Company": ("company", _same),
}  # fmt: skip
MAPPINGS = {
    "leads": mapped("leads@1#a", "Email", LEAD, "optin", "Email"),
    "leads2": mapped("leads2@1#a", "Email", LEAD, "", "Email"),
    "news": mapped(
        "news@1#a", "email_address",
        {"email_address": ("email", _same), "LNAME": ("lastname", _same),
         "PHONE": ("phone", _same)}, "", "email_address",
    ),
    "letters": mapped(
        "letters@1#a", "email_address",
        {"email_address": ("email", _same), "STATUS": ("email", _subscribed)}, "email",
    ),
    "visits": mapped("visits@1#a", "", {"page": ("page", _same)}, "page"),
    "vips": mapped(
        "vips@1#a", "email_address",
        {"email_address": ("email", _same), "LNAME": ("lastname", _same)}, "", "email_address",
    ),
}  # fmt: skip


def connections(**joins: str) -> dict[str, Connection]:
    """Connection to what becomes of a contact that shows another person's address."""
    return {
        name: known.model_copy(
            update={
                "identify": {
                    kind: identify.model_copy(update={"joins": joins.get(name, identify.joins)})
                    for kind, identify in known.identify.items()
                }
            }
        )
        for name, known in CONNECTIONS.items()
    }


def catalog(
    *names: str, joins: Mapping[str, str] | None = None, ruling: str | dict[str, str] = "",
    **flows: Flow,
) -> Catalog:  # fmt: skip
    """All definitions at version 1, or those of the named syncs. `ruling`: of the leads."""
    chosen = names or ("leads", "leads2", "news")
    syncs = {**SYNCS, "leads": SYNCS["leads"].model_copy(update={"ruling": ruling})}
    return Catalog(
        connections=connections(**(joins or {})),
        syncs={(n, 1): syncs[n] for n in chosen},
        active={f"{kind}:{n}": 1 for n in chosen for kind in ("sync", "mapping")},
        compiled=lambda name, version, fields, fields_version: MAPPINGS.get(name),
        facts=frozenset({("mailchimp", "visit")}),
        flows={
            "hub:contact": Flow(),
            "hub2:contact": Flow(),
            **(
                flows
                or {f"{t}": Flow(0.1, 10) for t in ("sales:Lead", "mail:member", "mail:subscriber")}
            ),
        },
        identity_key=b"k",
    )
