"""Logs and metrics, the same for every process."""

import logging
import os

from prometheus_client import start_http_server

from schemas.logs import log_from, log_library_warnings
from syncline.settings import Settings

__all__ = ["configure", "configure_command", "serve_metrics"]


def configure(settings: Settings) -> None:
    """One JSON object a line on stderr. Nothing personal and no secret is ever logged."""
    level = getattr(logging, settings.log_level.upper())
    log_library_warnings(level)
    log_from(level)


def configure_command() -> None:
    """For a command that ends by itself: its answer says what went wrong, in words. What happens
    beneath (a broker that is tried again, say) is logged only where `SYNCLINE_LOG_LEVEL` is set."""
    asked = os.environ.get("SYNCLINE_LOG_LEVEL", "").upper()
    log_from(logging.getLevelNamesMapping().get(asked, logging.CRITICAL))


def serve_metrics(port: int) -> None:
    """On loopback: /metrics."""
    if port:
        start_http_server(port, "127.0.0.1")
