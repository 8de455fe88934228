"""The fast encoder says the same as the codec and schemas.ids, byte for byte."""

from hypothesis import given
from hypothesis import strategies as st

from schemas import ids
from schemas.codec import Codec
from schemas.events import EventKind, PlatformEvent
from webhook_gateway.encode import EventEncoder
from webhook_gateway.senders.base import Event

codec = Codec.offline()
text = st.text(max_size=20) | st.sampled_from(["x" * 63, "x" * 64, "é" * 600, "x" * 70_000])
long = st.integers(-(2**63), 2**63 - 1)
events = st.builds(
    Event,
    identity=st.lists(text, max_size=7).map(tuple),
    content=st.binary(max_size=50),
    object_type=text,
    object_id=text,
    kind=st.sampled_from(EventKind),
    platform_kind=text,
    occurred_ms=st.integers(0, 253_402_300_799_999),  # to the year 9999; see source_time
    time_certain=st.booleans(),
    changed=st.lists(text, max_size=3).map(tuple),
    related=st.lists(st.tuples(text, text), max_size=3).map(tuple),
    thin=st.booleans(),
    values=st.binary(max_size=2000),
    payload=st.binary(max_size=2000),
)


@given(event=events, connection=text, received_ms=long, trace=text)
def test_the_same_bytes_as_the_codec(
    event: Event, connection: str, received_ms: int, trace: str
) -> None:
    encoder = EventEncoder(codec, connection, "hubspot")
    event_id = encoder.event_id(event)
    message = PlatformEvent(
        event_id=event_id,
        connection=connection,
        platform="hubspot",
        object_type=event.object_type,
        object_id=event.object_id,
        kind=event.kind,
        occurred_ms=event.occurred_ms,
        time_certain=event.time_certain,
        received_ms=received_ms,
        platform_kind=event.platform_kind,
        changed=list(event.changed),
        thin=event.thin,
        related=[ids.object_key(connection, *other) for other in event.related],
        trace=trace,
        values=event.values,
        payload=event.payload,
    )
    key, value, _ = encoder.messages(received_ms, trace)(event)
    assert value == codec.encode(message)
    assert key == message.object_key


@given(event=events, connection=text)
def test_the_same_id_as_schemas_ids(event: Event, connection: str) -> None:
    expected = ids.event_id(connection, event.identity, event.content)
    assert EventEncoder(codec, connection, "hubspot").event_id(event) == expected


def test_cloud_events_attributes() -> None:
    event = Event(
        identity=(), content=b"", object_type="contact", object_id="1", kind=EventKind.updated,
        platform_kind="contact.propertyChange", occurred_ms=1_700_000_000_007, time_certain=True,
        changed=(), related=(), thin=True, values=b"{}", payload=b"{}",
    )  # fmt: skip
    encoder = EventEncoder(codec, "hub", "hubspot")
    _, _, headers = encoder.messages(0, "00-a-b-01")(event)
    assert dict(headers) == {
        "ce_specversion": b"1.0",
        "ce_id": encoder.event_id(event),
        "ce_type": "syncline.hubspot.contact.propertyChange",
        "ce_source": b"/connections/hub",
        "ce_time": b"2023-11-14T22:13:20.007Z",
        "traceparent": "00-a-b-01",
    }
