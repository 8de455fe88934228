"""Pipedrive: webhooks of one company, version 2 and the older version 1.

Body     JSON, one event; page "Guide for webhooks v2" (2026-07); v1 as captured by others
Answer   2xx within 10 s; repeated after 3, 30 and 150 s, then lost; ten first tries that fail ban
         the address for 30 min
Proof    none: HTTP Basic, where it is set, or a secret in the address
Repeats  have the same `meta.id`; `meta.attempt` differs
Traps    ids are numbers or texts; `data` is null in a delete, `previous` holds only what changed in
         a change; a merge is a delete with `merged_to_id`, and a change
"""

from typing import ClassVar

from schemas.events import EventKind
from webhook_gateway.senders.base import SenderSpec
from webhook_gateway.senders.declared import Declared, Events, Found, NoOptions, Subject
from webhook_gateway.senders.proofs import SharedSecret

MERGED_TO = "data.merged_to_id|previous.merged_to_id|meta.merged_to_id"


class Sender(Declared):
    """One webhook. The secret is `user:password` as typed in Pipedrive, or the password alone."""

    spec: ClassVar[SenderSpec] = SenderSpec(
        platform="pipedrive",
        options=NoOptions,
        body_bytes_max=2 * 1024 * 1024,
        answer_within_s=10.0,
        kept_headers=("content-type", "user-agent"),
        secret_in_path=True,
    )
    proof = SharedSecret()
    events = Events(
        kind=("meta.entity|meta.object", "meta.action"),
        kinds={
            "create": EventKind.created,
            "change": EventKind.updated,
            "delete": EventKind.deleted,
            "added": EventKind.created,
            "updated": EventKind.updated,
            "deleted": EventKind.deleted,
            "merged": EventKind.merged,
        },
        objects=(Subject(type="{meta.entity|meta.object}", id="meta.entity_id|meta.id"),),
        time="meta.timestamp",
        changed="previous",
        values=("previous", "data|current"),
        repeats=("meta.attempt", "retry"),
        thin=False,
    )

    def kind_of(self, word: str, found: Found) -> EventKind:
        if word.endswith((".delete", ".deleted")) and found.text(MERGED_TO):
            return EventKind.merged
        return super().kind_of(word, found)

    def subject(self, word: str, found: Found) -> tuple[str, str]:
        """Of a merge: the object that remains."""
        object_type, object_id = super().subject(word, found)
        merging = self.kind_of(word, found) is EventKind.merged
        return object_type, (found.text(MERGED_TO) if merging else "") or object_id

    def related(self, word: str, found: Found) -> tuple[tuple[str, str], ...]:
        """Of a merge: the object that is gone."""
        if self.kind_of(word, found) is not EventKind.merged or not found.text(MERGED_TO):
            return ()
        object_type, object_id = super().subject(word, found)
        return ((object_type, object_id),) if object_id else ()
