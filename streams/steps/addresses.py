"""Whose is this identity? The first who asks; everybody after them gets the same answer."""

from schemas.base import Message
from schemas.identity import AddressAnswered, AddressAsked
from schemas.topics import ANSWERED
from streams.steps.outputs import Outputs, Send
from streams.steps.rows import Owner, pack, unpack_owner
from streams.steps.work import Rows

__all__ = ["Addresses", "answer"]


def answer(owner: Owner | None, asked: AddressAsked) -> tuple[Owner, AddressAnswered]:
    """-> (the owner after the question, the answer). Asking again gets the same answer.

    Objects that may share an address and yet be several persons (`alone`): the first of their kind
    is the owner's, each other one is who it would be without the address.
    """
    owner = owner or Owner(asked.proposed)
    told = AddressAnswered(
        identity=asked.identity, object_key=asked.object_key, person=owner.person
    )
    if asked.alone:
        holder = owner.holders.setdefault(asked.alone, asked.object_key)
        if holder != asked.object_key and owner.person != asked.proposed:
            told = told.model_copy(update={"person": asked.proposed, "kept_from": owner.person})
    return owner, told


class Addresses:
    """One chunk of one partition of `addresses`; used like `people.People`."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.out = Outputs()

    def take(self, key: str, message: Message) -> None:
        """One message of identities.asked. Raises on a bug only."""
        if not isinstance(message, AddressAsked):
            raise TypeError(f"{type(message).__name__} is no question about an address")
        assert key == message.identity
        data = self.rows.get(key)
        owner, told = answer(unpack_owner(data) if data else None, message)
        if not data or message.alone:
            self.rows.put(key, pack(owner))
        self.out.send(ANSWERED, told.object_key, told)
        self.out.keep()

    def close(self) -> list[Send]:
        """All messages of the chunk."""
        return self.out.close(0)
