"""Has this very request been here before? A sender's own repeat, or somebody who plays back.

Either way it makes the same events under the same ids, so it is taken and told, not refused: a
sender that repeats has had no answer, and must get one.
"""

from collections import OrderedDict
from collections.abc import Sequence

__all__ = ["Seen"]

TAIL_BYTES = 256
SEEN_MAX = 16_384
"""Requests remembered, of all connections: those of the last minutes, in about 2 MB."""


class Seen:
    """Remembers requests that Kafka has confirmed."""

    def __init__(self, seen_max: int = SEEN_MAX) -> None:
        self._seen_max = seen_max
        # A plain dictionary finds its first entry by looking past all that were deleted before it.
        self._seen: OrderedDict[int, None] = OrderedDict()

    def name(
        self, connection: str, target: str, signatures: Sequence[str | None], body: bytes
    ) -> int:
        """Of a genuine request. Keyed anew in every process, like every hash of Python's.

        `signatures`: what stood in the headers that sign the body; one of them and the body's end
        name it (some sign a batch's first element alone). Without any its bytes do.
        """
        if any(signatures):
            return hash((connection, *signatures, len(body), body[-TAIL_BYTES:]))
        return hash((connection, target, body))

    def __contains__(self, name: int) -> bool:
        return name in self._seen

    def add(self, name: int) -> None:
        self._seen[name] = None
        self._seen.move_to_end(name)
        if len(self._seen) > self._seen_max:
            self._seen.popitem(last=False)
