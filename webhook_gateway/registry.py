"""The schema registry, asked by a process of its own: `python -m webhook_gateway.registry`.

Its client and what that brings (an HTTP client, an OAuth library) take 16 MB, and a gateway asks it
once in its life. The child reads one question on its standard input and writes one answer.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from schemas.codec import Codec, register

__all__ = ["RegistryAway", "codec_of"]

ASK_S_MAX = 60.0


class RegistryAway(Exception):
    """It did not answer, or said no; the text says which."""


def codec_of(config: Mapping[str, str]) -> Codec:
    """`config`: of the registry's client, `url` first. Registers our schemas where they are not
    there yet. Blocking. Raises RegistryAway."""
    return Codec(_asked(config), lambda schema_id: _asked(config, schema_id))


def _asked(config: Mapping[str, str], schema_id: int | None = None) -> Any:
    """-> ids of our schemas by subject, or the text of one schema. Raises RegistryAway."""
    question = json.dumps({"config": dict(config), "schema_id": schema_id})
    command = [sys.executable, "-m", __name__]
    try:
        done = subprocess.run(  # noqa: S603 - ourselves
            command, input=question, capture_output=True, text=True, timeout=ASK_S_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        raise RegistryAway(f"no answer within {ASK_S_MAX:g} s") from None
    if done.returncode:
        raise RegistryAway(done.stderr.strip().rpartition("\n")[2] or "the question failed")
    return json.loads(done.stdout)


def main() -> None:
    """Exit code 1: what went wrong is the last line on stderr."""
    from confluent_kafka.schema_registry import SchemaRegistryClient

    question = json.load(sys.stdin)
    try:
        with SchemaRegistryClient(question["config"]) as client:
            if (schema_id := question["schema_id"]) is None:
                answer = register(client)
            else:
                answer = client.get_schema(schema_id).schema_str or ""
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told and tried again
        sys.exit(f"{type(error).__name__}: {error}")
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
