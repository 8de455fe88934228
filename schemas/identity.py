"""Whose is it: the hop by which two first sightings of one address become one person."""

from pydantic import Field

from schemas.base import Message, PersonalBytes

__all__ = ["AddressAnswered", "AddressAsked", "Join", "LinkClaim", "Moved", "ObjectMerged"]


class AddressAsked(Message):
    """An unseen object asks who owns its identifying key. Topic `identities.asked`, keyed by it.

    Asking again gets the same answer.
    """

    identity: str = Field(description="Keyed hash of the normalised identifying key.")
    object_key: str = Field(description="Who asks, and where the answer goes.")
    proposed: str = Field(description="Person key that the asker gets if nobody owns the identity.")
    alone: str = Field(
        default="",
        description="`connection:object_type` whose objects may share an address and be several "
        "persons: only the first of them gets the owner. Empty: all get the owner.",
    )


class AddressAnswered(Message):
    """The owner of an identity. Topic `identities.answered`, keyed by the asking object."""

    identity: str = Field(description="As asked; `was:` and an object key: see ObjectMerged.")
    object_key: str
    person: str = Field(description="Empty: that object was never seen.")
    kept_from: str = Field(
        default="", description="Owner of an address that is shared: `person` is somebody else."
    )


class LinkClaim(Message):
    """An object that we made or adopted ourselves belongs to this person, so its webhooks find it.

    Topic `identities.answered`, keyed by the object.
    """

    object_key: str
    person: str


class ObjectMerged(Message):
    """The platform made one object of two, or gave one another id: `object_key` is `into` now.

    Topic `identities.answered`, keyed by the object that is gone.
    """

    object_key: str
    into: str = Field(description="Object key.")
    person: str = Field(
        description="Whose `into` is. Empty: nobody knows it yet, and it asks whose this one was; "
        "the answer is an AddressAnswered for `was:object_key`."
    )
    at_ms: int = Field(description="When it happened at the platform.")


class Join(Message):
    """Two persons are one, or may be. Topic `acts`, keyed by `person`; passed on to where a person
    has moved, so that of two the one with the smaller key stays: no circle can come to be.
    """

    join_id: str = Field(description="The same for both directions.")
    person: str
    into: str
    automatic: bool = Field(default=False, description="False: only proposed, somebody approves.")
    apart: bool = Field(default=False, description="By policy not even proposed: it is only told.")
    why: str = ""
    who: str = ""
    by_object: str = Field(default="", description="Object key of the object that told it.")
    gone: str = Field(default="", description="Object key that exists no longer at its platform.")
    became: str = Field(default="", description="Object key that `gone` is now.")
    gone_ms: int = Field(default=0, description="When that happened at the platform.")


class Moved(Message):
    """Everything that is known of a person, on its way to another person's row, or, when a join is
    undone, back to its own. Topic `acts`, keyed by the receiver.
    """

    join_id: str
    person: str = Field(description="Whose row it is.")
    into: str = Field(description="To whom it moves; the person itself: back.")
    who: str = ""
    why: str = ""
    row: PersonalBytes = Field(description="Row of the table `people`.")
