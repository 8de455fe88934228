"""Mailchimp's batch operations: calls handed over in one, and answered in an archive later. Pure.

API      https://mailchimp.com/developer/marketing/guides/run-async-requests-batch-endpoint/ (read
         2026-11): any call, its body as text; at most 500 batches that are not through
Results  a tar.gz of JSON files, each a list of `{status_code, operation_id, response}`, `response`
         the answer as text. Its address is signed and good for ten minutes: asking again gives
         another
Traps    a batch begins when it is handed over
"""

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

__all__ = ["Batch", "answers", "operations"]

FILE_BYTES_MAX = 256 * 1024 * 1024
"""Unpacked, in all: 10,000 members with 100 merge fields are far less."""


class Batch(msgspec.Struct):
    """What is told of one."""

    id: str
    status: str = ""
    response_body_url: str = ""


class _Told(msgspec.Struct):
    status_code: int
    response: str = ""


def operations(path: str, bodies: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """One call for each body."""
    return [
        {
            "method": "POST",
            "path": path,
            "operation_id": str(number),
            "body": msgspec.json.encode(body).decode(),
        }
        for number, body in enumerate(bodies)
    ]


def answers(archive: bytes) -> list[tuple[int, Any]]:
    """(status, answer) of each operation, in no order. Raises ValueError for what is no such
    archive, or is too large."""
    try:
        return [(told.status_code, _decoded(told.response)) for told in _told(archive)]
    except (tarfile.TarError, OSError, EOFError, msgspec.DecodeError) as error:
        raise ValueError(f"no archive of results: {type(error).__name__}") from None


def _told(archive: bytes) -> Iterator[_Told]:
    left = FILE_BYTES_MAX
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r|gz") as files:
        for entry in files:
            left -= entry.size
            if left < 0:
                raise ValueError(f"more than {FILE_BYTES_MAX} bytes of results")
            if (file := files.extractfile(entry)) is not None:
                yield from msgspec.json.decode(file.read(), type=list[_Told])


def _decoded(text: str) -> Any:
    return msgspec.json.decode(text) if text else None
