"""What an account needs of the worker around it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from connectors.base import Connector, Http, ObjectSpec, Spec
from connectors.breaker import Breaker
from connectors.lanes import Taken
from connectors.settling import Send
from connectors.stats import Stats
from connectors.wire import Wire

__all__ = ["Client", "Office"]


@dataclass(frozen=True, slots=True)
class Client:
    """One connection, ready to be used."""

    name: str
    account: str
    connector: Connector
    http: Http

    @property
    def spec(self) -> Spec:
        return self.connector.spec

    def key_field(self, spec: ObjectSpec) -> str:
        """Destination field that holds our person key, as this connection names it."""
        config = getattr(self.connector, "config", None)
        return str(getattr(config, spec.key_option, "") or spec.key_field)

    def changes_quota(self, spec: ObjectSpec) -> str:
        """Group of a page of `Changes`; some connections read them in another way."""
        return str(getattr(self.connector, "changes_quota", "") or spec.read_quota)


class Office(Protocol):
    """Called in the event loop."""

    platform: str
    partitions: int
    """How many partitions topics keyed by person have."""
    breaker: Breaker
    """Of the platform, for all its accounts here."""
    wire: Wire
    stats: Stats

    def now_s(self) -> float:
        """Monotonic."""
        ...

    def client(self, connection: str) -> Client:
        """Raises Misconfigured."""
        ...

    def refresh(self, connection: str) -> None:
        """Make its client anew: secrets may have been rotated."""
        ...

    def match_field(self, sync: str) -> str:
        """Destination field by which people already there are found; empty: none."""
        ...

    def fetch_fields(self, connection: str, object_type: str) -> tuple[str, ...]:
        """Source fields that any sync reads; empty: all that the platform gives by itself."""
        ...

    def fated(self, taken: Taken) -> None:
        """A row of this command has its fate, and stands in `taken.settled`."""
        ...

    def done(self, taken: Taken) -> None:
        """A command without rows is done; `taken.sends` is what it owes."""
        ...

    def also(self, sends: list[Send], partition: int) -> None:
        """Written in one of the next transactions, as long as the partition is ours."""
        ...

    async def intend(
        self, partition: int, account: str, request_id: str, rows: list[str], receipt: str = ""
    ) -> str:
        """Make durable that these rows are about to be sent -> key of the intent. `receipt`: of
        the job that they are sent in."""
        ...

    def later(self, wait_s: float, call: Callable[[], None]) -> None: ...

    def failed(self, error: BaseException) -> None:
        """A bug in a task: the process ends."""
        ...
