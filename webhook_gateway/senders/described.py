"""Platforms without a file here: their webhooks as `webhook:` in the platform's description says,
`connectors/platforms/<name>.yaml`. What is there is the same data as in the files here; a turn of
its own (a header that must agree with the body, a merge that is told as a delete) needs a file.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from webhook_gateway.senders.base import SenderSpec, SenderType
from webhook_gateway.senders.declared import Declared, Events, NoOptions, spec_of
from webhook_gateway.senders.proofs import STANDARD_WEBHOOKS, AnyProof

__all__ = ["SECTION", "WebhookForm", "described", "made", "names"]

SECTION = "webhook"
KEPT = ("content-type", "user-agent")


def _folder() -> Path:
    """Where descriptions are: found, not imported, as the gateway needs nothing else of there."""
    spec = find_spec("connectors")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "platforms"


class WebhookForm(BaseModel):
    """What a platform sends by itself, and how a request of its proves whose it is."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    about: str = Field(description="Page, answer that it wants, how it repeats, traps.")
    proof: Literal["standard_webhooks"] | AnyProof = Field(
        description="Recipe of the signature, or of the secret that goes along."
    )
    events: Events = Field(description="Where the events are in a body, and what each says.")
    body_bytes_max: int = Field(
        default=4 * 1024 * 1024, ge=1, description="Larger ones are answered 413, unread."
    )
    answer_within_s: float = Field(
        default=5.0, gt=0, description="It gives up and repeats after this."
    )


def names(folder: Path | None = None) -> tuple[str, ...]:
    """Platforms whose description has a `webhook`, in alphabetical order."""
    return _names(folder or _folder())


@cache
def _names(folder: Path) -> tuple[str, ...]:
    head = f"\n{SECTION}:".encode()
    return tuple(sorted(p.stem for p in folder.glob("*.yaml") if head in p.read_bytes()))


@cache
def described(platform: str, folder: Path | None = None) -> SenderType:
    """The class that speaks for a platform. Raises ConfigInvalid: mistakes with file and line."""
    from schemas.yamlfile import read_yaml, validated  # 3 MB, for those alone that have no file

    data, lines = read_yaml((folder or _folder()) / f"{platform}.yaml")
    return made(platform, validated(data[SECTION], lines, WebhookForm, (SECTION,)))


def made(platform: str, form: WebhookForm) -> SenderType:
    """The class that does what a form says."""
    proof = STANDARD_WEBHOOKS if form.proof == "standard_webhooks" else form.proof
    spec = SenderSpec(
        platform=platform,
        options=NoOptions,
        body_bytes_max=form.body_bytes_max,
        answer_within_s=form.answer_within_s,
        kept_headers=KEPT,
    )
    members: dict[str, Any] = {
        "__doc__": form.about,
        "proof": proof,
        "events": form.events,
        "spec": spec_of(spec, proof),
    }
    return cast(SenderType, type("Sender", (Declared,), members))
