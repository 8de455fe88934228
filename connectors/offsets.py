"""Which messages of one partition are done: the committed offset, and a bitmap above it. Pure.

One slow account must not hold the checkpoint of the others, so messages finish in any order. The
committed offset is the first one that is not finished; what is finished above it stands as a bitmap
in the commit's metadata, and a successor skips it.
"""

import base64
import binascii
from collections import deque

__all__ = ["METADATA_BYTES_MAX", "STRETCH_MAX", "Stretch"]

STRETCH_MAX = 4_096
"""Offsets past the committed one that may be in hand: as many as fit into the metadata."""
METADATA_BYTES_MAX = 700
"""Kafka refuses 4,096 characters by aborting the transaction; a full bitmap takes 686."""
_VERSION = "1:"


class Stretch:
    """Offsets of one partition that are in hand or finished above the committed one.

    `base` moves as soon as `finish` is called; `checkpoint` says what to commit.
    """

    __slots__ = ("_before", "_done", "_end", "_open", "base")

    def __init__(self, base: int, metadata: str = "") -> None:
        """`base`, `metadata`: as committed. Metadata of another make counts as empty: then
        messages are done again, which is safe."""
        self.base = base
        self._end = base
        self._open: deque[int] = deque()
        self._done: set[int] = set()
        self._before = _read(base, metadata)

    def room(self, offset: int) -> bool:
        """Whether this offset may be taken in: its bit would fit into the metadata. Always, where
        nothing is in hand: markers and aborted records leave gaps of any length."""
        return not self._open or offset - self.base < STRETCH_MAX

    def take(self, offset: int) -> bool:
        """Take a message in hand, in the order of the log. False: it was finished by a
        predecessor and is to be skipped."""
        assert offset >= self._end, "an offset came twice"
        assert self.room(offset), "beyond the stretch"
        if not self._open:
            self.base = offset
        self._end = offset + 1
        self._open.append(offset)
        if offset in self._before:
            self._before.discard(offset)
            self.finish(offset)
            return False
        return True

    def finish(self, offset: int) -> None:
        """Everything that this message asked for is done."""
        self._done.add(offset)
        while self._open and self._open[0] in self._done:
            self._done.discard(self._open.popleft())
        self.base = self._open[0] if self._open else self._end

    @property
    def in_hand(self) -> int:
        return len(self._open) - len(self._done)

    def checkpoint(self) -> tuple[int, str]:
        """(offset to commit, metadata). What a predecessor finished and was not read again yet
        stays in the bitmap."""
        finished = [o - self.base for o in self._done]
        finished += [o - self.base for o in self._before if o >= self.base]
        if not finished:
            return self.base, ""
        bits = bytearray(max(finished) // 8 + 1)
        for place in finished:
            bits[place // 8] |= 1 << place % 8
        text = _VERSION + base64.b64encode(bits).decode()
        assert len(text) < METADATA_BYTES_MAX
        return self.base, text


def _read(base: int, metadata: str) -> set[int]:
    if not metadata.startswith(_VERSION):
        return set()
    try:
        bits = base64.b64decode(metadata.removeprefix(_VERSION), validate=True)
    except (binascii.Error, ValueError):
        return set()
    return {
        base + n * 8 + bit
        for n, byte in enumerate(bits)
        if byte
        for bit in range(8)
        if byte >> bit & 1
    }
