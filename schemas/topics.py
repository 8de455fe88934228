"""All topics on one page. Who writes, who reads, what the key is, how long it is kept.

All topics that feed a table have the same number of partitions, fixed for a cluster's life: a
subject's events, outcomes, acts and ticks meet in one partition only because of that.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from schemas import (
    audiences,
    commands,
    control,
    definitions,
    events,
    handover,
    identity,
    journal,
    outcomes,
    parked,
    runs,
)
from schemas.base import Message

__all__ = [
    "PLATFORMS",
    "TOPICS",
    "Topic",
    "commands_of",
    "events_of",
    "intake_of",
    "of_platform",
    "outcomes_of",
    "platforms_in",
    "received_from",
    "topics_of",
]

PLATFORMS = ("hubspot", "salesforce", "mailchimp")
"""Whose topics every cluster has from the start. Those of any other platform are made when the
first configuration that names it is applied: topics cost memory, and few sites use many platforms.
"""
DAY_S = 24 * 3600


@dataclass(frozen=True)
class Topic:
    """`values`: the kinds of message on it; empty where the value is raw bytes."""

    name: str
    key: str
    values: tuple[type[Message], ...]
    kept_s: int | None
    """Seconds that a message is kept; None: compacted, the newest of each key for ever."""
    writers: str
    readers: str
    about: str
    partitions: Literal["tables", "one"] = "tables"
    """`tables`: the cluster's one count; `one`: a single partition, read whole by everybody."""


def intake_of(platform: str) -> str:
    return f"intake.{platform}"


def events_of(platform: str) -> str:
    return f"events.{platform}"


def commands_of(platform: str) -> str:
    return f"commands.{platform}"


def outcomes_of(platform: str) -> str:
    return f"outcomes.{platform}"


RESOLVED = "records.resolved"
ASKED = "identities.asked"
ANSWERED = "identities.answered"
JOURNAL = "journal"
PARKED = "parked"
FIXES = "fixes"
CONTROL = "control"
ACTS = "acts"
DEFINITIONS = "definitions"
HANDOVER = "handover"
TICKS = "ticks"
QUARANTINE = "quarantine"
RUNS = "runs"
AUDIENCES = "audiences"


def received_from(platform: str) -> tuple[Topic, ...]:
    """What its webhooks become: all that a platform needs whose connections only receive. Such
    events are read by downstream teams alone."""
    return (
        Topic(intake_of(platform), "connection", (), 30 * DAY_S, "webhook_gateway", "replay",
              "Bodies as received; headers: path, chosen HTTP headers, verdict, received_ms."),
        Topic(events_of(platform), "connection:object_type:object_id", (events.PlatformEvent,),
              90 * DAY_S, "webhook_gateway, connectors", "streams.admit, downstream teams",
              "What happened at the platform, one message an event."),
    )  # fmt: skip


def of_platform(platform: str) -> tuple[Topic, ...]:
    """All topics of a platform that is read or written."""
    return (
        *received_from(platform),
        Topic(commands_of(platform), "account",
              (commands.UploadBatch, commands.FetchPages, commands.ReadObjects, commands.Recall,
               commands.CheckJob, commands.LookUp), 30 * DAY_S, "streams", "connectors",
              "What the platform's worker is asked to do; one owner for each account's quota."),
        Topic(outcomes_of(platform), "person", (outcomes.RecordOutcome, outcomes.AccountState),
              30 * DAY_S, "connectors", "streams.shape", "What became of each row."),
    )  # fmt: skip


_COMMON: tuple[Topic, ...] = (
    Topic(RESOLVED, "person", (events.ResolvedRecord,), 30 * DAY_S, "streams.admit",
          "streams.shape, downstream teams", "Events without repeats, with their person."),
    Topic(ASKED, "identity", (identity.AddressAsked,), 7 * DAY_S,
          "streams.admit, streams.shape", "streams.addresses", "Whose is this address."),
    Topic(ANSWERED, "object key",
          (identity.AddressAnswered, identity.LinkClaim, identity.ObjectMerged, control.Again),
          7 * DAY_S,
          "streams.addresses, streams.shape, command line", "streams.admit",
          "Whose it is; and events that somebody lets in again."),
    Topic(JOURNAL, "run, or sync", (journal.JournalEntry,), 365 * DAY_S, "all",
          "streams.runs, audit, console, auditors", "Everything that was decided and done."),
    Topic(RUNS, "run", (runs.RunView,), None, "streams.runs", "console, command line",
          "What each bulk run looks like right now."),
    Topic(PARKED, "sync:person, row id or event id", (parked.ParkedRecord,), None,
          "webhook_gateway, streams", "console, command line",
          "What waits for a person's decision."),
    Topic(FIXES, "person|object key|field", (parked.Fix,), None, "streams.shape",
          "console, command line", "What people have mended, as long as it applies."),
    Topic(CONTROL, "run, or sync", (control.Act, audiences.AudiencePart), 365 * DAY_S,
          "console, command line, scheduler", "streams.runs, connectors",
          "What people asked for, with who, when and why; and the lists that they gave."),
    Topic(AUDIENCES, "sync|object id", (audiences.AudienceMember,), None, "command line, scheduler",
          "command line, scheduler", "Who is on the list of a sync, as it was given last."),
    Topic(ACTS, "person",
          (control.Act, control.Again, identity.Join, identity.Moved, events.ResolvedRecord),
          30 * DAY_S, "streams.runs, streams.admit, streams.shape, command line", "streams.shape",
          "Acts, brought to the persons they are about; persons who are joined, and what comes for "
          "those who have moved."),
    Topic(DEFINITIONS, "kind:name@version, or kind:name", (definitions.Definition,), None,
          "syncline apply", "all",
          "Connections, syncs, mappings; secrets only as references.", "one"),
    Topic(HANDOVER, "account:what", (handover.Lease, handover.Intent, handover.Learned), None,
          "connectors", "connectors", "What the next owner of an account must know."),
    Topic(TICKS, "partition", (control.Tick,), DAY_S, "streams", "streams",
          "Time as records: steps know no other clock."),
    Topic(QUARANTINE, "connection", (), 7 * DAY_S, "webhook_gateway", "replay",
          "Refused requests of known connections, for the day a wrong secret is put right."),
)  # fmt: skip


def topics_of(platforms: Iterable[str]) -> tuple[Topic, ...]:
    """All topics of a cluster in which these platforms are read or written."""
    return (*(topic for platform in platforms for topic in of_platform(platform)), *_COMMON)


def platforms_in(names: Iterable[str]) -> tuple[str, ...]:
    """The platforms whose topics every cluster has, and others that have theirs among `names`."""
    prefix = commands_of("")
    there = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    return (*PLATFORMS, *sorted(there - set(PLATFORMS)))


TOPICS = topics_of(PLATFORMS)
"""What every cluster has."""
