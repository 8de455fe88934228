"""The simulated platforms of the demo: one process, spoken to over HTTP like the real ones."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from syncline.errors import Failed

__all__ = ["EXAMPLE", "TEN_SECONDS", "Simulators"]

EXAMPLE = Path(__file__).resolve().parent.parent / "examples/hubspot-to-salesforce-and-mailchimp"

READY_S = 120.0
TEN_SECONDS = 60
"""HubSpot's calls in ten seconds, scaled from 190: fetching is what the demo waits for, as in
earnest, where platforms are slower than simulated ones on the same machine."""
SCALED = ("--quota", f"hubspot.ten_seconds={TEN_SECONDS}/10")
OFF = tuple(
    part
    for window in (
        "hubspot.ten_seconds", "hubspot.day", "hubspot.search", "salesforce.day",
        "salesforce.long", "mailchimp.connections",
    )
    for part in ("--quota", f"{window}=off")
)  # fmt: skip


class Simulators:
    """HubSpot, Salesforce and Mailchimp. `urls`: platform to base address."""

    def __init__(
        self, folder: Path, contacts: int, seed: int, *, quotas: bool, more: Sequence[str] = ()
    ) -> None:
        """`more`: arguments of `python -m simulators`, other platforms for one; they come last.
        Raises Failed where they do not start."""
        self._log = (folder / "simulators.log").open("wb")
        command = [
            sys.executable, "-m", "simulators", "--port", "0",
            "--contacts", str(contacts), "--seed", str(seed), "--while-stdin-open",
            *(SCALED if quotas else OFF), *more,
        ]  # fmt: skip
        self.process = subprocess.Popen(  # noqa: S603 - our own command line
            command,
            stdin=subprocess.PIPE,  # closes with us, however we end
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=os.environ,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"the simulators did not start; their log is {folder / 'simulators.log'}")
        self.urls: dict[str, str] = json.loads(line)
        self._http = httpx.Client(timeout=READY_S, trust_env=False)

    def get(self, platform: str, page: str, **params: Any) -> Any:
        answer = self._http.get(f"{self.urls[platform]}/_sim/{page}", params=params)
        answer.raise_for_status()
        return answer.json()

    def post(self, platform: str, page: str, body: Any) -> Any:
        answer = self._http.post(f"{self.urls[platform]}/_sim/{page}", json=body)
        answer.raise_for_status()
        return answer.json()

    def lines(self, platform: str, page: str, **params: Any) -> Iterator[dict[str, Any]]:
        """A page of one JSON object a line, as it comes."""
        address = f"{self.urls[platform]}/_sim/{page}"
        with self._http.stream("GET", address, params=params) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines():
                if line:
                    yield json.loads(line)

    def change(self, acts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What people do in HubSpot -> when each was done."""
        return self.post("hubspot", "act", list(acts))["acted"]

    def stop(self) -> None:
        self._http.close()
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self._log):
            if pipe is not None:
                pipe.close()
