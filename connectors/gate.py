"""Whether an account's requests may start, and why not. Pure: time comes in.

Four things close it. *Held*: a person closed it, and only a person opens it; nothing is asked
meanwhile. *Trouble*: the platform gives no good answer; short waits, and after a few
the platform is asked something cheap before rows are tried again. *Halted*: the platform or our
configuration says that nothing will work until somebody acts; everything goes back, and a probe
finds out when that has happened. *Stopping*: the account is handed to another worker. Beside them
the platform as a whole may be down (`breaker`).
"""

from dataclasses import dataclass, field

from connectors.breaker import Breaker

__all__ = ["Gate"]

TROUBLE_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
PROBE_AFTER = 3
"""Waits without a good answer in between, after which rows are not what is tried next."""
HALTED_S = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0)


@dataclass(slots=True)
class Gate:
    """Of one account."""

    name: str = ""
    platform: Breaker = field(default_factory=Breaker)
    """Shared with the other accounts of the platform."""
    held: str = ""
    """Who closed it, and why; empty: nobody has."""
    halted: str = ""
    """Why it takes nothing; empty: it is not halted."""
    halted_ms: int = 0
    misconfigured: bool = False
    """It is halted by what we were told, not by what the platform says."""
    halts: int = 0
    """In a row: a probe that succeeds is no proof that writing works."""
    faults: int = 0
    """Waits without a good answer in between."""
    until_s: float = 0.0
    """Nothing starts before, unless the platform is found to answer again meanwhile."""
    failed_s: float = 0.0
    """Last fault."""
    answered_s: float = 0.0
    """Last good answer."""
    why: str = ""
    """What the last trouble was."""
    stopping: bool = False

    def open(self, now_s: float) -> bool:
        return not (self.shut or self.stopping or self.wait_s(now_s) > 0 or self.probes)

    def wait_s(self, now_s: float) -> float:
        """How long until anything may start, or be asked; 0 or less: now."""
        mended = not self.halted and self.platform.answered_s > self.failed_s
        if now_s < self.until_s and not mended:
            return self.until_s - now_s
        return self.platform.wait_s(self.name, now_s)

    @property
    def shut(self) -> str:
        """Why nothing goes until somebody acts; empty: it is not so."""
        return self.held or (f"account halted: {self.halted}" if self.halted else "")

    @property
    def probes(self) -> bool:
        """The platform is to be asked something cheap before the next row goes out."""
        trouble = self.faults >= PROBE_AFTER or self.platform.shut
        return not self.held and (bool(self.halted) or trouble)

    def answered(self, now_s: float) -> None:
        """A good answer."""
        self.platform.answered(now_s)
        self.answered_s = now_s
        self.faults, self.until_s, self.why = 0, 0.0, ""

    def wrote(self) -> None:
        """Rows were taken: whatever halted it is over."""
        self.halts = 0

    def failed(self, now_s: float, why: str) -> None:
        """No answer, or a fault of the platform. Requests that were under way together count
        once."""
        self.why, self.failed_s = why, now_s
        if now_s >= self.until_s:
            self.until_s = now_s + TROUBLE_S[min(self.faults, len(TROUBLE_S) - 1)]
            self.faults += 1
            self.platform.failed(self.name, now_s)

    def halt(self, now_s: float, now_ms: int, why: str) -> None:
        self.halted, self.halted_ms = why, now_ms
        self.until_s = now_s + HALTED_S[min(self.halts, len(HALTED_S) - 1)]
        self.halts += 1

    def reopen(self, now_s: float) -> None:
        """Somebody acted, or a probe succeeded."""
        self.halted, self.halted_ms, self.misconfigured = "", 0, False
        self.answered(now_s)

    def heard(self, now_s: float) -> None:
        """A refusal: whatever is wrong with us, the platform is there."""
        self.platform.answered(now_s)

    def still_halted(self, now_s: float) -> None:
        """A probe failed."""
        self.until_s = now_s + HALTED_S[min(self.halts, len(HALTED_S) - 1)]
        self.halts += 1
