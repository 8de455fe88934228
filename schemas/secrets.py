"""Secrets are references in every file and on every topic; here a reference becomes its value."""

import os
from pathlib import Path

from pydantic import SecretStr

__all__ = ["SecretMissing", "is_reference", "resolve"]

FILE_BYTES_MAX = 64 * 1024  # keys and certificates are smaller; a wrong path may lead to anything


class SecretMissing(Exception):
    """Nothing usable stands behind a reference. The text names the reference, never a value."""

    def __init__(self, reference: str, why: str) -> None:
        super().__init__(f"secret {reference!r}: {why}")
        self.reference = reference


def is_reference(value: object) -> bool:
    """Whether a value of a configuration stands for another one."""
    return isinstance(value, str) and value.startswith(("env:", "file:"))


def resolve(reference: str) -> SecretStr:
    """`env:NAME` or `file:PATH` to its value; one line end after a file's text is not part of it.

    Reads anew on every call, so a rotated file is seen. Raises SecretMissing: not set, not
    readable, empty, over 64 KiB, or no reference at all.
    """
    kind, _, rest = reference.partition(":")
    match kind:
        case "env" if rest:
            value = os.environ.get(rest)
            if value is None:
                raise SecretMissing(reference, "the environment variable is not set")
        case "file" if rest:
            value = _read(reference, Path(rest))
        case _:
            # not the text itself: somebody may have put the secret where its reference belongs
            raise SecretMissing("…", "is no reference; write env:NAME or file:PATH")
    if not value:
        raise SecretMissing(reference, "is empty")
    return SecretStr(value)


def _read(reference: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        text = data.decode()
    except OSError as error:
        raise SecretMissing(reference, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SecretMissing(reference, "is not UTF-8 text") from None
    if len(data) > FILE_BYTES_MAX:
        raise SecretMissing(reference, f"is larger than {FILE_BYTES_MAX} bytes")
    return text.removesuffix("\n").removesuffix("\r")
