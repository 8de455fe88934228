"""A log gets a line now and then, never one for each chunk."""

import pytest

from syncline.progress import Teller


def test_a_log_gets_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    now_s = 100.0
    teller = Teller(clock=lambda: now_s)
    with teller:
        for done in range(0, 101):
            now_s += 0.1
            teller.progress(done * 1_000_000, 100_000_000)
        teller.say("ready")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "  0 of 100 MB"
    assert lines[-2:] == ["  100 of 100 MB", "ready"]
    assert 5 <= len(lines) <= 9


def test_a_terminal_gets_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with Teller() as teller:
        teller.progress(1_000_000, 2_000_000)
        teller.progress(2_000_000, 2_000_000)
        assert teller.bar is not None
    assert teller.bar is None
    assert "2.0/2.0 MB" in capsys.readouterr().err
