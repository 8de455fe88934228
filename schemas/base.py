"""What all messages have in common: frozen, closed, personal data marked."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Message", "Personal"]


class Message(BaseModel):
    """A value on a topic. The model is the source of its Avro schema (`schemas/avsc/`).

    A change must stay BACKWARD_TRANSITIVE: a new field needs a default, a field with a default may
    go, nothing is renamed. `bytes` fields have no default, so a new one must be `bytes | None`.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


Personal = Field(json_schema_extra={"personal": True})
"""Marks a field that may hold personal data: `payload: Annotated[bytes, Personal]`. The mark goes
into the Avro schema, so that retention, erasure and exports find every such field."""

PersonalBytes = Annotated[bytes, Personal]
PersonalText = Annotated[str, Personal]
