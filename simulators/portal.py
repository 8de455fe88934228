"""The contacts of a HubSpot portal, made from a seed, awkward on purpose.

Everything here is a pure function of (n, seed): the contacts, which of them another platform will
refuse and why, which are already in Salesforce, and what changes while a sync runs.

Among n contacts
- exactly min(45, n // 100) break a rule of Salesforce (`refusals`); about half of them have an
  address that Mailchimp refuses too
- n // 200 have the address of another contact, in another case (`twins`)
- n // 100 have no address
- n // 20 are already leads in Salesforce, without any external id (`preloaded`)
- the rest miss last names, companies, countries, have telephone numbers that are none, values at
  the edge of what Salesforce takes, and names in many scripts
"""

import random
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

FIRST_ID = 1_000_001
EPOCH_MS = 1_672_531_200_000  # 2023-01-01: the first contact was made then or later
TWO_YEARS_MS = 63_072_000_000


class Contact(NamedTuple):
    """`properties` holds only what has a value; all values are text, as HubSpot keeps them."""

    id: str
    properties: dict[str, str]
    created_ms: int
    updated_ms: int


class Refusal(NamedTuple):
    """A contact that a destination will refuse, by which rule, and what would mend it."""

    contact_id: str
    kind: str
    code: str  # Salesforce's word
    field: str  # Salesforce's field
    property: str  # the contact's property with the fault
    fix: str  # a value that is taken
    mailchimp: bool  # Mailchimp refuses it too


class Lead(NamedTuple):
    """A lead that is in Salesforce before the first run."""

    contact_id: str
    values: dict[str, str]
    created_ms: int


class Change(NamedTuple):
    """A user changes one property of one contact, `at_s` seconds after the start."""

    at_s: float
    contact_id: str
    property: str
    value: str


class Plan(NamedTuple):
    """Which contacts, by place, are special."""

    refused: dict[int, str]  # place -> kind
    twins: dict[int, int]  # place -> place of the earlier contact with the same address
    without_email: frozenset[int]
    preloaded: tuple[int, ...]


KINDS = {  # kind -> (Salesforce code, Salesforce field, property, refused by Mailchimp)
    "email_without_tld": ("INVALID_EMAIL_ADDRESS", "Email", "email", True),
    "company_too_long": ("STRING_TOO_LONG", "Company", "company", False),
    "email_trailing_dot": ("INVALID_EMAIL_ADDRESS", "Email", "email", True),
    "title_too_long": ("STRING_TOO_LONG", "Title", "jobtitle", False),
    "email_double_dot": ("INVALID_EMAIL_ADDRESS", "Email", "email", True),
    "city_too_long": ("STRING_TOO_LONG", "City", "city", False),
}

# fmt: off
FIRST = (
    "Ann", "Ben", "Chloé", "Dīmītrijs", "Émile", "Fátima", "Géza", "Håkon", "Ивана", "Jürgen",
    "Καλλιόπη", "Łukasz", "Mária", "Nguyễn", "Ótavio", "Pål", "Quentin", "Renée", "Søren",
    "Tomáš", "Úrsula", "Väinö", "William", "Xóchitl", "Ýmir", "Zoë", "美咲", "伟", "محمد", "שרה",
    "मीरा", "지훈", "Jean-Luc", "D'Arcy", "Zoe\u0308", "Анна",
)
LAST = (
    "Adams", "Brontë", "Ćosić", "Đorđević", "Eğilmez", "Fernández", "García-López", "Hansen",
    "O'Neil", "Ivanović", "Jørgensen", "Kowalczyk", "Lefèvre", "Müller", "Ng", "Ørsted", "Петров",
    "Quiñones", "Różański", "Šimić", "Þórsson", "Ünal", "Vîlcu", "Weiß", "佐藤", "王", "Yıldız",
    "Žižka", "d'Artagnan", "van\u00a0Dijk", "McDonald",
)
ASCII = (
    "ann", "ben", "chloe", "emile", "fatima", "geza", "hakon", "jurgen", "lukasz", "maria",
    "otavio", "renee", "soren", "tomas", "zoe",
)
DOMAINS = (
    "example.com", "example.org", "mail.example.net", "firma.example.de", "example.co.uk",
    "x.example",
)
# fmt: on
COMPANIES = (
    "ACME, Inc.",
    "Müller & Söhne GmbH",
    "株式会社サンプル",
    "“Quoted” Ltd",
    "O'Neil <Partners>",
    "Société Générale d'Exemples",
    "Пример ООО",
    "A/S Ærø; Bjørnø",
    "Tab\tand 100 % \\ Co.",
    "x",
)
TITLES = ("CEO", "Leiter Einkauf", "VP, Sales & Marketing", "Développeuse", "部長", "Senior Buyer")
CITIES = ("Berlin", "São Paulo", "Łódź", "東京", "Saint-Étienne", "København", "New York", "Oslo")
COUNTRIES = (  # as people write them, and a telephone number of the place: {} is 7 digits
    ("Germany", "030 {}1"),
    ("DE", "+49 30 {}1"),
    ("germany", "0049 30 {}1"),
    ("United States", "(212) 2{:.6}"),
    ("USA", "+1 212 2{:.6}"),
    ("United Kingdom", "+44 20 7{}"),
    ("France", "01 4{}"),
    ("Poland", "22 {}"),
    ("Denmark", "3{}"),
    ("Atlantis", "{}"),
)
SOURCES = (
    "ORGANIC_SEARCH",
    "PAID_SEARCH",
    "EMAIL_MARKETING",
    "SOCIAL_MEDIA",
    "REFERRALS",
    "DIRECT_TRAFFIC",
    "OFFLINE",
)
STAGES = ("subscriber", "lead", "marketingqualifiedlead", "opportunity", "customer")


def contact_id(place: int) -> str:
    return str(FIRST_ID + place)


@lru_cache(4)
def plan(n: int, seed: int) -> Plan:
    """Which of n contacts are special; the kinds exclude each other."""
    draw = random.Random(f"plan:{seed}")
    places = draw.sample(range(n), n)
    refused, places = places[: min(45, n // 100)], places[min(45, n // 100) :]
    kinds = list(KINDS)
    twins: dict[int, int] = {}
    for _ in range(n // 200):
        one, other = sorted((places.pop(), places.pop()))
        twins[other] = one
    without = [places.pop() for _ in range(n // 100)]
    return Plan(
        {place: kinds[i % len(kinds)] for i, place in enumerate(sorted(refused))},
        twins,
        frozenset(without),
        tuple(sorted(places[: n // 20])),
    )


def contacts(n: int, seed: int) -> Iterator[Contact]:
    """All contacts, in the order of their ids."""
    special = plan(n, seed)
    draw = random.Random(f"contacts:{seed}")
    originals: dict[int, str] = dict.fromkeys(special.twins.values(), "")
    for place in range(n):
        contact = _contact(place, draw)
        properties = contact.properties
        if place in special.without_email:
            del properties["email"]
        elif place in special.twins:
            properties["email"] = _other_case(originals[special.twins[place]])
        elif place in special.refused:
            _spoil(properties, special.refused[place], place)
        elif place in originals:
            originals[place] = properties["email"]
        yield contact


def _contact(place: int, draw: random.Random) -> Contact:
    chance, pick = draw.random, draw.choice
    email = f"{pick(ASCII)}{'+news' if chance() < 0.02 else ''}.{place}@{pick(DOMAINS)}"
    properties = {"email": email.title() if chance() < 0.03 else email}
    if chance() < 0.95:
        first = pick(FIRST)
        properties["firstname"] = f" {first} " if chance() < 0.01 else first
    if chance() < 0.97:
        last = pick(LAST)
        properties["lastname"] = (last * 80)[:80] if chance() < 0.002 else last
    if chance() < 0.9:
        company = f"{pick(COMPANIES)} {place % 997}"
        properties["company"] = (company * 255)[:255] if chance() < 0.002 else company
    if chance() < 0.85:
        country, phone = pick(COUNTRIES)
        properties["country"] = country
        if chance() < 0.5:
            digits = f"{draw.randrange(2_000_000, 9_999_999)}"
            properties["phone"] = "n/a" if chance() < 0.05 else phone.format(digits)
    if chance() < 0.7:
        properties["jobtitle"] = pick(TITLES)
    if chance() < 0.7:
        city = pick(CITIES)
        properties["city"] = (city * 40)[:40] if chance() < 0.002 else city
    if chance() < 0.8:
        properties["hs_analytics_source"] = pick(SOURCES)
    if chance() < 0.5:
        properties["numberofemployees"] = str(int(10 ** (6 * chance())))
    properties["lifecyclestage"] = pick(STAGES)
    created_ms = EPOCH_MS + int(chance() * TWO_YEARS_MS)
    return Contact(
        contact_id(place), properties, created_ms, created_ms + int(chance() * TWO_YEARS_MS / 2)
    )


def _other_case(email: str) -> str:
    """The same address, written differently: HubSpot would have joined equal ones."""
    return email.upper() if email != email.upper() else email.lower()


def _spoil(properties: dict[str, str], kind: str, place: int) -> None:
    match kind:
        case "email_without_tld":
            properties["email"] = f"ann.{place}@intranet"
        case "email_trailing_dot":
            properties["email"] = f"ben.{place}@example.com."
        case "email_double_dot":
            properties["email"] = f"zoe..{place}@example.com"
        case "company_too_long":
            properties["company"] = (f"Vereinigte Beispielwerke {place} " * 12)[:260].strip() + "&"
        case "title_too_long":
            properties["jobtitle"] = f"Head of Everything {place}, " * 6 + "and more"
        case "city_too_long":
            properties["city"] = "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch"
        case _:
            raise AssertionError(kind)


def refusals(n: int, seed: int) -> list[Refusal]:
    """The contacts that Salesforce will refuse, by place, each with what would mend it."""
    found: list[Refusal] = []
    for place, kind in plan(n, seed).refused.items():
        code, field, name, mailchimp = KINDS[kind]
        fix = f"mended.{place}@example.com" if name == "email" else f"Mended {place}"
        found.append(Refusal(contact_id(place), kind, code, field, name, fix, mailchimp))
    return found


def preloaded(n: int, seed: int) -> Iterator[Lead]:
    """Leads that Salesforce holds already: same address, older values, no external id."""
    wanted = frozenset(plan(n, seed).preloaded)
    draw = random.Random(f"preloaded:{seed}")
    for place, contact in enumerate(contacts(n, seed)):
        if place not in wanted:
            continue
        email = contact.properties["email"]
        values = {
            "Email": email if draw.random() < 0.3 else email.lower(),
            "LastName": contact.properties.get("lastname", "Unknown"),
            "Company": f"Formerly {place}",
            "LeadSource": draw.choice(("Web", "Partner", "Purchased List")),
            "Status": "Open - Not Contacted",
        }
        if "firstname" in contact.properties and draw.random() < 0.5:
            values["FirstName"] = contact.properties["firstname"].strip()
        yield Lead(contact.id, values, contact.created_ms)


def changeable(n: int, seed: int) -> list[str]:
    """Ids of contacts that a live change may touch without making any of the above untrue."""
    special = plan(n, seed)
    apart = {*special.refused, *special.twins, *special.twins.values(), *special.without_email}
    return [contact_id(place) for place in range(n) if place not in apart]


def live_changes(
    among: Sequence[str], seed: int, count: int, seconds: float, email_share: float = 0.02
) -> list[Change]:
    """`count` changes over `seconds`, in order of time. No value occurs twice, so that order shows.

    Every fifth change hits one of the few contacts that change all the time.
    """
    draw = random.Random(f"live:{seed}")
    hot = draw.sample(among, max(1, len(among) // 1000))
    times = sorted(draw.random() * seconds for _ in range(count))
    changes: list[Change] = []
    for serial, at_s in enumerate(times):
        who = draw.choice(hot if serial % 5 == 0 else among)
        if draw.random() < email_share:
            name, value = "email", f"moved.{serial}@{draw.choice(DOMAINS)}"
        else:
            name = draw.choice(("jobtitle", "company", "firstname", "lastname", "city"))
            value = f"{draw.choice(FIRST)} {serial}"
        changes.append(Change(at_s, who, name, value))
    return changes
