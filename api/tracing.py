"""Traces: what a request caused, through the queue, down to the last Redis command.

OpenTelemetry. Off unless `install` is called: then nothing of its SDK is imported, and a span is
one look at a variable. Attributes hold names of commands, tools and models, never values, names of
keys, texts of errors.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Literal

from agent.telemetry import NOTHING, Attribute, Span

CLOSE_SECONDS = 3.0
"""How long the end of the process may wait for spans to be sent."""
Kind = Literal["internal", "server", "client", "consumer"]
_tracer: Any = None
_provider: Any = None


class NoExporter(ImportError):
    """Traces are wanted, and the packages for it are not installed."""


def install(endpoint: str, instance: str) -> None:
    """Send traces to an OTLP/HTTP receiver, such as `http://collector:4318`. Raises NoExporter."""
    if find_spec("opentelemetry.sdk") is None or find_spec("opentelemetry.exporter") is None:
        raise NoExporter("OTEL_EXPORTER_OTLP_ENDPOINT: pip install 'redis-oncall[otel]' for traces")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    url = endpoint.rstrip("/") + "/v1/traces"
    record(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)), instance)


def record(processor: Any, instance: str = "") -> None:
    """Hand spans to an OpenTelemetry span processor until `close`."""
    global _tracer, _provider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    ours = version("redis-oncall")
    resource = Resource.create(
        {
            "service.name": "redis-oncall",
            "service.version": ours,
            "service.instance.id": instance,
        }
    )
    # Not the global one: libraries that trace themselves would add spans that nobody asked for.
    _provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    _provider.add_span_processor(processor)
    _tracer = _provider.get_tracer("redis-oncall", ours)


def close() -> None:
    """Send what is left, for a bounded time; then it is off. Repeatable. Blocks."""
    global _tracer, _provider
    provider, _tracer, _provider = _provider, None, None
    if provider is not None:
        # A receiver that is away would be waited for much longer.
        ending = threading.Thread(target=provider.shutdown, daemon=True)
        ending.start()
        ending.join(CLOSE_SECONDS)


def is_on() -> bool:
    """Are traces recorded?"""
    return _tracer is not None


class _Recorded:
    """A span under way."""

    def __init__(self, span: Any) -> None:
        self._span = span

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        """Add attributes."""
        self._span.set_attributes(attributes)

    def rename(self, name: str) -> None:
        """What it is called is known only now."""
        self._span.update_name(name)

    def fail(self, kind: str) -> None:
        """It failed: by the kind of failure, since its text may hold anything."""
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR))


NO_SPAN: AbstractContextManager[Span] = nullcontext(NOTHING)


def span(
    name: str,
    attributes: Mapping[str, Attribute] | None = None,
    *,
    kind: Kind = "internal",
    parent: Any = None,
    link: str = "",
) -> AbstractContextManager[Span]:
    """A span around the block, below the current one. An exception that leaves the block fails it.

    `parent`: an OpenTelemetry context instead of the current one. `link`: the traceparent of
    another trace that this one has to do with.
    """
    if _tracer is None:
        return NO_SPAN
    return _span(name, attributes, kind, parent, link)


@contextmanager
def _span(
    name: str, attributes: Mapping[str, Attribute] | None, kind: Kind, parent: Any, link: str
) -> Iterator[Span]:
    from opentelemetry import trace

    linked = trace.get_current_span(context_of(link)).get_span_context() if link else None
    with _tracer.start_as_current_span(
        name,
        context=parent,
        kind=trace.SpanKind[kind.upper()],
        attributes=attributes,
        links=[trace.Link(linked)] if linked is not None and linked.is_valid else [],
        record_exception=False,
        set_status_on_exception=False,
    ) as under_way:
        recorded = _Recorded(under_way)
        try:
            yield recorded
        except BaseException as error:
            recorded.fail(type(error).__name__)
            raise


def link(traceparent: str) -> None:
    """The current span has to do with another trace, too."""
    if _tracer is None or not traceparent:
        return
    from opentelemetry import trace

    linked = trace.get_current_span(context_of(traceparent)).get_span_context()
    if linked.is_valid:
        trace.get_current_span().add_link(linked)


def context_of(traceparent: str) -> Any:
    """The OpenTelemetry context of a traceparent; an empty one if it cannot be read."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {"traceparent": traceparent}
    return TraceContextTextMapPropagator().extract(carrier, context=Context())


def traceparent() -> str:
    """The current span, in W3C's words; empty if there is none, or traces are off."""
    if _tracer is None:
        return ""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent", "")


def trace_id() -> str:
    """The current trace, 32 hexadecimal digits; empty if there is none, or traces are off."""
    return traceparent()[3:35]
