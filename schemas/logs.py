"""Logs of every process: one JSON object a line on stderr. Nothing personal, no secret."""

import logging
import sys

import structlog

__all__ = ["log_from", "log_library_warnings"]


def log_from(level: int) -> None:
    """What our own code says, from this level up."""
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


def log_library_warnings(level: int) -> None:
    """What libraries say, from warnings up."""
    logging.basicConfig(level=max(level, logging.WARNING), format="%(message)s")
