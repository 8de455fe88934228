"""A cluster, simulated platforms and the processes of ours, as the long runs have them."""

import contextlib
import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import httpx

from syncline import cluster
from syncline.commands import balance
from syncline.platforms import Simulators
from syncline.settings import Settings
from syncline.stack import Stack
from syncline.supervisor import Supervisor
from tests.e2e.gateway_world import free_port

SILENT_S = 240.0


@dataclass
class World(ABC):
    """Use a subclass with `with`. What is said of it in the end is read from the platforms."""

    folder: Path
    seed: int = 1
    kills: list[str] = field(default_factory=list[str], init=False)
    _ends: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, init=False)
    SECRETS: ClassVar[dict[str, str]]

    @abstractmethod
    def simulators(self) -> Simulators:
        """The platforms, with nothing of ours running yet."""

    @abstractmethod
    def files(self) -> Iterable[tuple[str, str]]:
        """Path in the configuration's folder, and text."""

    @abstractmethod
    def settle_in(self) -> None:
        """What is so at the platforms before anything of ours runs."""

    @abstractmethod
    def aim(self) -> None:
        """Let the platforms send their webhooks to `url`."""

    def __enter__(self) -> Any:
        with contextlib.ExitStack() as ends:
            self._start(ends)
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ends.close()

    def _start(self, ends: contextlib.ExitStack) -> None:
        self.stack = ends.enter_context(Stack.start(self.folder / "stack"))
        self.sims = self.simulators()
        ends.callback(self.sims.stop)
        self.settle_in()
        self.configuration = self.folder / "configuration"
        for path, text in self.files():
            file = self.configuration / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        self.env = {
            **self.SECRETS,
            "KAFKA_BOOTSTRAP_SERVERS": self.stack.bootstrap_servers,
            "SCHEMA_REGISTRY_URL": self.stack.registry_url,
            "SYNCLINE_DATA": str(self.folder / "data"),
        }
        self.syncline("apply", str(self.configuration), "--yes")
        gateway, self.status_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{gateway}"
        self.processes = Supervisor(self.folder / "logs", self.env)
        ends.callback(self.processes.stop)
        self.processes.add(
            "gateway", "gateway", "--port", str(gateway), "--admin-port", str(free_port()),
            "--public-url", self.url,
        )  # fmt: skip
        self.processes.add("streams", "streams")
        self.processes.add("connectors", "connectors", "--admin-port", str(self.status_port))
        self.until(lambda: _ok(f"{self.url}/readyz"), "the gateway is ready", 120)
        ready = f"http://127.0.0.1:{self.status_port}/readyz"
        self.until(lambda: _ok(ready), "the connectors are ready", 120)
        self.aim()
        self.settings = Settings(
            bootstrap_servers=self.stack.bootstrap_servers, registry_url=self.stack.registry_url
        )
        self.codec = cluster.codec(self.settings)
        self.balance = balance.Reader(self.settings, self.codec)

    def until(self, true: Callable[[], Any], what: str, within_s: float = SILENT_S) -> Any:
        deadline = time.monotonic() + within_s
        while not (value := true()):
            if hasattr(self, "processes"):
                self.processes.check()
            assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
            time.sleep(0.1)
        return value

    def syncline(self, *args: str, code: int = 0) -> str:
        """A command as a person types it -> what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "syncline", *args], env={**os.environ, **self.env},
            capture_output=True, text=True, check=False, timeout=1_800,
        )  # fmt: skip
        assert done.returncode == code, f"{args}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
        return done.stdout

    def kill(self, what: str) -> None:
        assert self.processes.kill(what)
        self.kills.append(what)


def _ok(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    return False
