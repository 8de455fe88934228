"""The options by which parked records are chosen are the same in every command that has them."""

import pytest
import typer
from typer.testing import CliRunner

from schemas.parked import ParkedRecord, Stage
from syncline import selecting
from syncline.selecting import Selection
from syncline.settings import Settings


def parked(number: int, **more: str) -> ParkedRecord:
    return ParkedRecord(
        parked_id=str(number), stage=Stage.upload, first_ms=number, source=b"{}", fields=b"{}",
        **{"sync": "leads", "code": "BAD", "field": "Phone", **more},
    )  # fmt: skip


def test_a_command_gets_its_options_as_one_selection() -> None:
    app, got = typer.Typer(), list[tuple[Selection, str]]()

    @app.command()
    @selecting.selecting
    def command(chosen: Selection, why: str = "") -> None:
        got.append((chosen, why))

    line = ["1", "2", "--sync", "leads", "--code", "BAD", "--field", "F", "--group", "g", "--all"]
    assert CliRunner().invoke(app, [*line, "--why", "so"]).exit_code == 0
    assert got == [(Selection(["1", "2"], "leads", "BAD", "F", "g", True), "so")]
    assert CliRunner().invoke(app, ["--nosuch", "x"]).exit_code == 2


@pytest.mark.parametrize(
    ("chosen", "ids"),
    [
        (Selection(all_=True), ["1", "2", "3"]),
        (Selection(all_=True, code="WORSE"), ["2"]),
        (Selection(all_=True, field="Phone", sync="leads"), ["1"]),
        (Selection(["3", "1"]), ["1", "3"]),
    ],
)
def test_what_it_takes(chosen: Selection, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    there = [parked(3, sync="news"), parked(1), parked(2, code="WORSE", field="Fax")]
    monkeypatch.setattr(selecting, "parked_records", lambda *_: {r.parked_id: r for r in there})
    found = chosen.of(Settings(), None)  # type: ignore[arg-type]
    assert [r.parked_id for r in found] == ids
