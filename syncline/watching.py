"""Ask for something and see what comes of it: the journal from just before the asking on."""

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from audit.answers import Answers
from schemas import topics
from schemas.base import Message
from schemas.codec import Codec
from schemas.control import Act
from schemas.journal import JournalEntry
from syncline import acts
from syncline.errors import Failed
from syncline.settings import Settings
from syncline.since import Since, decoded

__all__ = ["Watch"]

STEP_S = 0.1


class Watch:
    """`with Watch(settings, codec) as watch:` from here on no answer is missed."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        """Raises KafkaException where Kafka is away."""
        self._settings, self._codec = settings, codec
        self._journal = Since(settings.kafka_config(), topics.JOURNAL, None)
        self.answers = Answers(frozenset())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._journal.close()

    def ask(self, asked: Sequence[Act], more: Sequence[tuple[str, str, Message]] = ()) -> Answers:
        """Write acts to `control`, then what belongs to them: (topic, key, message). The answers
        fill while waiting. Raises Failed where Kafka does not confirm."""
        self.answers = Answers(frozenset(act.act_id for act in asked))
        acts.ask(self._settings, self._codec, asked)
        if more:
            acts.publish(self._settings, more, self._codec)
        return self.answers

    def until(self, true: Callable[[Answers], bool], wait_s: float) -> bool:
        """Take in the journal until it is true of the answers, or the time is over -> which.

        Raises Failed where an act was refused.
        """
        deadline = time.monotonic() + wait_s
        while True:
            for entry in decoded(self._journal.poll(STEP_S), self._codec):
                if isinstance(entry, JournalEntry):
                    self.answers.take(entry)
            if self.answers.refused:
                raise Failed(f"refused: {self.answers.refused}")
            if true(self.answers):
                return True
            if time.monotonic() > deadline:
                return False
