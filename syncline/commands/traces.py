"""`syncline traces`."""

import os
import signal
from collections.abc import Iterator
from typing import Annotated, Any

import structlog
import typer
from confluent_kafka import Consumer, KafkaException
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from audit.spans import Span, Spans
from schemas import topics
from schemas.codec import Codec, Undecodable
from schemas.kafka_log import KAFKA_LOG
from syncline import cluster, telemetry
from syncline.errors import Failed, Misused

app = typer.Typer()
log = structlog.get_logger("traces")

GROUP = "syncline-traces"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
BATCH_MAX = 500
POLL_S = 0.5
SCOPE = InstrumentationScope("syncline")


@app.command()
def traces(
    ratio: Annotated[
        float, typer.Option(min=0, max=1, help="Share of all traces that is exported.")
    ] = 1.0,
    from_beginning: Annotated[
        bool, typer.Option(help="At the first start: everything that is kept, not from now on.")
    ] = False,
) -> None:
    """Export what became of each webhook's events as OpenTelemetry traces, until SIGTERM.

    The traces are read off the topics, on the `traceparent` that the sender sent or the gateway
    made. The standard OTEL_* variables say where to, OTEL_EXPORTER_OTLP_ENDPOINT at least.
    Continues where it was; what was exported just before it was killed is exported again, under
    the same ids.
    """
    if not any(os.environ.get(name) for name in ENDPOINTS):
        raise Misused("set OTEL_EXPORTER_OTLP_ENDPOINT, such as http://127.0.0.1:4318")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with cluster.connected() as (settings, codec):
        telemetry.configure(settings)
        consumer = Consumer(
            {
                **settings.kafka_config(),
                "group.id": GROUP,
                "group.instance.id": GROUP,  # one that is started again goes on at once
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest" if from_beginning else "latest",
                "isolation.level": "read_committed",
                "logger": KAFKA_LOG,
            }
        )
        consumer.subscribe([topics.JOURNAL, *map(topics.events_of, cluster.platforms(settings))])
        try:
            export(consumer, codec, Spans(ratio), OTLPSpanExporter())
        except KeyboardInterrupt:
            return
        finally:
            consumer.close()


def export(consumer: Consumer, codec: Codec, spans: Spans, exporter: Any) -> None:
    """Never returns. Offsets are committed once the collector has taken what came before them."""
    resource = Resource.create({"service.name": "syncline"})
    log.info("exporting", to=os.environ.get(ENDPOINTS[0]) or os.environ.get(ENDPOINTS[1]))
    while True:
        records = consumer.consume(BATCH_MAX, POLL_S)
        found = [span for record in records for span in _taken(record, codec, spans)]
        if found:
            told = exporter.export([_readable(span, resource) for span in found])
            if told is not SpanExportResult.SUCCESS:  # it has repeated by itself, with waits
                raise Failed("the collector does not take traces; nothing is lost, start again")
            log.info("exported", spans=len(found))
        if records:
            consumer.commit(asynchronous=False)


def _taken(record: Any, codec: Codec, spans: Spans) -> Iterator[Span]:
    if record.error():
        raise KafkaException(record.error())
    try:
        message = codec.decode(record.value())
    except Undecodable:
        return
    yield from spans.take(message, record.timestamp()[1])


def _readable(span: Span, resource: Resource) -> ReadableSpan:
    sampled = TraceFlags(TraceFlags.SAMPLED)
    return ReadableSpan(
        name=span.name,
        context=SpanContext(span.trace_id, span.span_id, is_remote=False, trace_flags=sampled),
        parent=SpanContext(span.trace_id, span.parent_id, is_remote=True, trace_flags=sampled),
        resource=resource,
        attributes=span.about,
        kind=SpanKind.SERVER if span.name.startswith("receive") else SpanKind.CONSUMER,
        status=Status(StatusCode.ERROR if span.failed else StatusCode.UNSET),
        start_time=span.begin_ms * 1_000_000,
        end_time=span.end_ms * 1_000_000,
        instrumentation_scope=SCOPE,
    )
