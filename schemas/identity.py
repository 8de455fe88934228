"""Whose is it: the hop by which two first sightings of one address become one person."""

from pydantic import Field

from schemas.base import Message

__all__ = ["AddressAnswered", "AddressAsked", "LinkClaim"]


class AddressAsked(Message):
    """An unseen object asks who owns its identifying key. Topic `identities.asked`, keyed by it.

    Asking again gets the same answer.
    """

    identity: str = Field(description="Keyed hash of the normalised identifying key.")
    object_key: str = Field(description="Who asks, and where the answer goes.")
    proposed: str = Field(description="Person key that the asker gets if nobody owns the identity.")


class AddressAnswered(Message):
    """The owner of an identity. Topic `identities.answered`, keyed by the asking object."""

    identity: str
    object_key: str
    person: str


class LinkClaim(Message):
    """An object that we made or adopted ourselves belongs to this person, so its webhooks find it.

    Topic `identities.answered`, keyed by the object.
    """

    object_key: str
    person: str
