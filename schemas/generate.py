"""Writes `schemas/avsc/` and `docs/asyncapi.json` from the models: `python -m schemas.generate`."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import py_avro_schema

from schemas.base import Message
from schemas.codec import AVSC, MESSAGES, NAMESPACE, subject
from schemas.topics import TOPICS

__all__ = ["asyncapi", "files", "main"]

ROOT = Path(__file__).resolve().parent.parent


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.0: one channel a topic, one operation for its subscribers."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Syncline",
            "version": "1",
            "description": "Topics of the event backbone. Values are Avro in the Confluent wire "
            "format, registered under the record's name, BACKWARD_TRANSITIVE.",
        },
        "defaultContentType": "application/vnd.apache.avro",
        "channels": {
            topic.name: {
                "address": topic.name,
                "description": f"{topic.about} Key: {topic.key}. Written by: {topic.writers}. "
                f"Read by: {topic.readers}.",
                "messages": {
                    m.__name__: {"$ref": f"#/components/messages/{m.__name__}"}
                    for m in topic.values
                }
                or {"raw": {"$ref": "#/components/messages/raw"}},
                "bindings": {
                    "kafka": {
                        "topicConfiguration": {
                            "cleanup.policy": ["compact" if topic.kept_s is None else "delete"],
                            **({"retention.ms": topic.kept_s * 1000} if topic.kept_s else {}),
                        }
                    }
                },
            }
            for topic in TOPICS
        },
        "operations": {
            f"read_{topic.name}": {
                "action": "receive",
                "channel": {"$ref": f"#/channels/{topic.name.replace('/', '~1')}"},
            }
            for topic in TOPICS
        },
        "components": {
            "messages": {
                **{
                    m.__name__: {
                        "name": subject(m),
                        "summary": (m.__doc__ or "").strip().splitlines()[0],
                        "payload": {
                            "schemaFormat": "application/vnd.apache.avro+json;version=1.9.0",
                            "schema": generated(m),
                        },
                    }
                    for m in MESSAGES
                },
                "raw": {"name": "raw", "contentType": "application/octet-stream"},
            }
        },
    }


@cache
def generated(model: type[Message]) -> dict[str, Any]:
    """The Avro record of a model, with `"personal": true` on every field that is marked so."""
    schema = json.loads(py_avro_schema.generate(model, namespace=NAMESPACE))
    _mark(schema, {m.__name__: m for m in _models(model)})
    return schema


def _models(model: type[Message]) -> set[type[Message]]:
    found = {model}
    for field in model.model_fields.values():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, Message):
                found |= _models(kind)
    return found


def _mark(schema: Any, models: Mapping[str, type[Message]]) -> None:
    if isinstance(schema, list):
        for part in schema:
            _mark(part, models)
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "enum":
        schema.pop("doc", None)  # inherited from the standard library, says nothing
    model = models.get(schema.get("name", ""))
    for field in schema.get("fields", ()):
        extra = model.model_fields[field["name"]].json_schema_extra if model else None
        if isinstance(extra, dict) and extra.get("personal"):
            field["personal"] = True
        _mark(field["type"], models)
    _mark(schema.get("items"), models)


def files() -> dict[Path, bytes]:
    """Every generated file and what it must hold."""
    out = {AVSC / f"{m.__name__}.avsc": _pretty(generated(m)) for m in MESSAGES}
    out[ROOT / "docs" / "asyncapi.json"] = _pretty(asyncapi())
    return out


def _pretty(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def main() -> None:
    for path, content in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    main()
