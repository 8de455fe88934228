"""A platform that is down, seen by many accounts: few questions meanwhile, all back at once."""

from collections import Counter
from collections.abc import Callable

import pytest

from connectors.breaker import ACCOUNTS_MIN, FAULTS_MIN, WAIT_S, Breaker
from connectors.gate import Gate

STEP_S = 0.5


class Days:
    """Accounts with rows that wait, as the worker tries them, in virtual time."""

    def __init__(self, count: int, up: Callable[[str, float], bool]) -> None:
        self.platform = Breaker()
        self.gates = {f"a{n}": Gate(f"a{n}", self.platform) for n in range(count)}
        self.up, self.now_s = up, 100.0
        self.rows: Counter[str] = Counter()
        self.asked: list[tuple[float, str]] = []
        self.wrote_s: dict[str, float] = {}
        """When each account wrote last."""

    def run(self, until_s: float) -> None:
        while self.now_s < until_s:
            for name, gate in self.gates.items():
                self._try(name, gate)
            self.now_s += STEP_S

    def _try(self, name: str, gate: Gate) -> None:
        if gate.wait_s(self.now_s) > 0:
            return
        if gate.probes:
            if not self.platform.turn(name, self.now_s):
                return
            self.asked.append((self.now_s, name))
        else:
            self.rows[name] += 1
        if self.up(name, self.now_s):
            if gate.open(self.now_s):
                self.wrote_s[name] = self.now_s
            gate.answered(self.now_s)
        else:
            gate.failed(self.now_s, "HTTP 503")


@pytest.mark.parametrize("count", [2, 30])
def test_an_outage_costs_few_questions_and_ends_for_all_at_once(count: int) -> None:
    days = Days(count, lambda name, now_s: not 200 <= now_s < 1_400)
    days.run(200)
    assert days.asked == []
    before = days.rows.copy()
    days.run(1_400)
    tried = sum((days.rows - before).values())
    assert tried <= max(count, FAULTS_MIN)  # rows of nobody are tried twice, once it is known
    assert len(days.asked) <= 2 * (1_200 / WAIT_S[-1]) + count
    days.run(1_400 + WAIT_S[-1] + 3)
    assert set(days.wrote_s) == set(days.gates)
    assert all(days.now_s - at_s < 5 for at_s in days.wrote_s.values())


def test_those_who_had_trouble_take_turns() -> None:
    days = Days(5, lambda name, now_s: now_s < 200)
    days.run(2_000)
    late = Counter(name for at_s, name in days.asked if at_s > 1_000)
    assert set(late) == set(days.gates)
    assert max(late.values()) - min(late.values()) <= 1


def test_two_accounts_in_trouble_hold_up_no_third_one() -> None:
    """Each organisation may have a host of its own: theirs are down, the platform is not."""
    days = Days(2, lambda name, now_s: name not in ("a0", "a1"))
    days.run(300)
    assert days.platform.shut
    days.gates["a2"] = Gate("a2", days.platform)  # its first rows come
    days.run(301)
    assert days.wrote_s["a2"] >= 300
    begun = days.rows["a2"]
    days.run(400)
    assert days.rows["a2"] - begun >= 95 / STEP_S
    assert not {"a0", "a1"} & set(days.wrote_s)


def test_one_account_in_trouble_is_its_own_affair() -> None:
    platform = Breaker()
    for _ in range(10 * FAULTS_MIN):
        platform.failed("a", 1.0)
    assert not platform.shut
    assert ACCOUNTS_MIN == 2
    platform.failed("b", 1.0)
    assert platform.shut
    platform.answered(2.0)
    assert not platform.shut


def test_a_refusal_is_an_answer() -> None:
    platform = Breaker()
    gates = [Gate("a", platform), Gate("b", platform)]
    for now_s in (1.0, 10.0):
        for gate in gates:
            gate.failed(now_s, "HTTP 503")
    assert platform.shut
    gates[0].heard(11.0)
    assert not platform.shut


def test_who_has_gone_is_not_waited_for() -> None:
    platform = Breaker(failing={"a": 3, "b": 3}, shut=True)
    assert platform.turn("a", 100.0)
    at_s = platform.until_s
    for account in ("a", "b"):
        assert platform.wait_s(account, 100.1) > 0  # nobody yet
        assert platform.wait_s(account, at_s) == 0
    assert not platform.turn("a", at_s)  # it is b's turn
    platform.forget("b")
    assert platform.turn("a", at_s)
