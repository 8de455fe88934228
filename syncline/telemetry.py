"""Logs and metrics, the same for every process."""

import logging
import os
import sys

import structlog
from prometheus_client import start_http_server

from syncline.settings import Settings

__all__ = ["configure", "configure_command", "serve_metrics"]


def configure(settings: Settings) -> None:
    """One JSON object a line on stderr. Nothing personal and no secret is ever logged."""
    level = getattr(logging, settings.log_level.upper())
    logging.basicConfig(level=max(level, logging.WARNING), format="%(message)s")
    _configure(level)


def configure_command() -> None:
    """For a command that ends by itself: its answer says what went wrong, in words. What happens
    beneath (a broker that is tried again, say) is logged only where `SYNCLINE_LOG_LEVEL` is set."""
    asked = os.environ.get("SYNCLINE_LOG_LEVEL", "").upper()
    _configure(logging.getLevelNamesMapping().get(asked, logging.CRITICAL))


def _configure(level: int) -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )


def serve_metrics(port: int) -> None:
    """On loopback: /metrics."""
    if port:
        start_http_server(port, "127.0.0.1")
