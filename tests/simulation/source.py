"""A portal of contacts that change, and what it tells: webhooks, pages, single objects."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas import ids
from schemas.events import EventKind, Origin, PlatformEvent

FIELDS = ("email", "lastname", "phone", "company", "optin")
PHONES = ("1", "2", "bad", "3", None, "unmappable")
GOOD_PHONES = ("1", "2", "3", None)
"""What nobody refuses."""


@dataclass
class Contact:
    """One contact: its values now, and every change with its time."""

    portal: str
    number: int
    values: dict[str, Any]
    changed_ms: int
    history: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """(time, the whole object from then on)."""
    skewed: bool = False
    """It has told a time in the future: nobody can know its order."""
    silent: bool = False
    """It has changed without telling."""
    gone: str = ""
    """Key of the contact that it was merged into."""

    @property
    def key(self) -> str:
        return ids.object_key(self.portal, "contact", str(self.number))


class Portal:
    """All contacts of one connection."""

    def __init__(self, name: str, draw: random.Random, phones: Sequence[str | None]) -> None:
        self.name, self.draw, self.phones = name, draw, phones
        self.contacts: list[Contact] = []
        self.serial = 0

    def create(self, email: str | None, now_ms: int) -> Contact:
        number = len(self.contacts)
        self.serial += 1
        values = {
            "email": email, "lastname": f"{self.name}-{number}-{self.serial}",
            "phone": self.draw.choice(self.phones[:2]), "company": "acme",
            "optin": self.draw.choice(["yes", "yes", "yes", "no"]),
        }  # fmt: skip
        contact = Contact(self.name, number, values, now_ms)
        contact.history.append((now_ms, dict(values)))
        self.contacts.append(contact)
        return contact

    def change(self, contact: Contact, now_ms: int) -> dict[str, Any]:
        """Change one or two fields -> what changed. Now and then twice in one millisecond."""
        again = self.draw.random() < 0.1
        now_ms = contact.changed_ms if again else max(now_ms, contact.changed_ms + 1)
        self.serial += 1
        changes: dict[str, Any] = {}
        for name in self.draw.sample(FIELDS[1:], self.draw.choice([1, 1, 2])):
            match name:
                case "lastname":
                    changes[name] = f"{self.name}-{contact.number}-{self.serial}"
                case "phone":
                    changes[name] = self.draw.choice(self.phones)
                case "company":
                    changes[name] = self.draw.choice(["acme", "initech", None])
                case _:
                    changes[name] = self.draw.choice(["yes", "yes", "no"])
        if self.draw.random() < 0.03:
            changes["email"] = f"moved-{self.name}-{self.serial}@x.io"
        elif self.draw.random() < 0.03:
            changes["email"] = self.draw.choice(self.contacts).values["email"]
        contact.values.update(changes)
        contact.changed_ms = now_ms
        contact.history.append((now_ms, dict(contact.values)))
        return changes

    def merge(self, contact: Contact, other: Contact, now_ms: int) -> None:
        """`other` is gone; some of its values are the contact's from now on."""
        now_ms = max(now_ms, contact.changed_ms + 1, other.changed_ms + 1)
        for name in self.draw.sample(FIELDS[1:], 2):
            contact.values[name] = other.values[name]
        contact.changed_ms = now_ms
        contact.history.append((now_ms, dict(contact.values)))
        other.gone = contact.key

    def webhook(self, contact: Contact, changes: dict[str, Any]) -> PlatformEvent:
        """What the portal says about the last change: the changed fields, or the whole."""
        thin = self.draw.random() < 0.7
        return self.event(contact, changes if thin else contact.values, thin=thin)

    def event(
        self, contact: Contact, values: dict[str, Any], *, thin: bool = False, run: str = "",
        record_no: int = -1, origin: Origin = Origin.webhook, kind: EventKind = EventKind.updated,
        related: Sequence[str] = (),
    ) -> PlatformEvent:  # fmt: skip
        document = json.dumps(values, sort_keys=True).encode()
        at_ms = contact.changed_ms
        if origin is Origin.webhook and self.draw.random() < 0.02:
            contact.skewed, at_ms = True, at_ms + 3_600_000
        name = [kind.value, str(contact.number), str(at_ms)]
        if run:
            event_id = ids.fetched_event_id(run, contact.key, b"%d %s" % (at_ms, document))
        else:
            event_id = ids.event_id(self.name, [origin.value, *name], document)
        return PlatformEvent(
            event_id=event_id, connection=self.name, platform="hubspot", object_type="contact",
            object_id=str(contact.number), kind=kind, origin=origin, run=run, record_no=record_no,
            occurred_ms=at_ms, received_ms=at_ms, thin=thin, values=document, payload=document,
            related=list(related),
        )  # fmt: skip
