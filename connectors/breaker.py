"""One platform as all accounts of a worker see it together. Pure: time comes in.

When several accounts get no good answer and none gets one, it is the platform that is down, not
they. Then nobody sends rows; one account at a time asks something cheap, and the first good answer
to anybody opens the way for all at once. An account that has had no trouble itself is not held by
that of others: it asks once, at once, and goes on.
"""

from dataclasses import dataclass, field

__all__ = ["Breaker"]

ACCOUNTS_MIN = 2
FAULTS_MIN = 4
"""Of all accounts together, without a good answer to any of them in between."""
WAIT_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
ASKED_S = 3.0
"""Whoever has asked for his turn within this time is still there to take it."""


@dataclass(slots=True)
class Breaker:
    """Of one platform."""

    failing: dict[str, int] = field(default_factory=dict)
    """Accounts to their faults since the last good answer to anybody."""
    shut: bool = False
    until_s: float = 0.0
    """Nobody who has had trouble asks before."""
    probes: int = 0
    """In a row, without a good answer."""
    answered_s: float = float("-inf")
    """When it was found to answer again."""
    _probed: dict[str, float] = field(default_factory=dict)
    _asked: dict[str, float] = field(default_factory=dict)

    def failed(self, account: str, now_s: float) -> None:
        """No answer to this account, or a fault of the platform."""
        self.failing[account] = self.failing.get(account, 0) + 1
        many = len(self.failing) >= ACCOUNTS_MIN and sum(self.failing.values()) >= FAULTS_MIN
        if many and not self.shut:
            self.shut, self.probes = True, 0
            self.until_s = now_s + WAIT_S[0]

    def answered(self, now_s: float) -> None:
        """A good answer to anybody; a refusal of what was asked is one too."""
        if self.shut:
            self.answered_s = now_s
        self.shut = False
        self.failing.clear()
        self._probed.clear()
        self._asked.clear()

    def forget(self, account: str) -> None:
        """It is not ours any more."""
        self.failing.pop(account, None)
        self._asked.pop(account, None)

    def wait_s(self, account: str, now_s: float) -> float:
        """How long until this account may ask for its turn; 0 or less: now."""
        if not self.shut or account not in self.failing:
            return 0.0
        self._asked[account] = now_s
        return self.until_s - now_s

    def turn(self, account: str, now_s: float) -> bool:
        """Whether this account is the one that asks now. Those who had trouble take turns."""
        if not self.shut or account not in self.failing:
            return True
        if now_s < self.until_s:
            return False
        mine = self._probed.get(account, float("-inf"))
        for other, asked_s in self._asked.items():
            theirs = self._probed.get(other, float("-inf"))
            if theirs < mine and now_s - asked_s < ASKED_S:
                return False
        self._probed[account] = now_s
        self.probes += 1
        self.until_s = now_s + WAIT_S[min(self.probes, len(WAIT_S) - 1)]
        return True
