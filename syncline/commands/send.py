"""`syncline send`."""

import os
import time
import uuid
from collections.abc import Mapping
from typing import Annotated, Any

import httpx
import typer
from pydantic import SecretStr, ValidationError

from schemas.definitions import Connection, Webhook
from schemas.follow import Definitions
from schemas.secrets import SecretMissing, resolve
from syncline import cluster, samples
from syncline.errors import Failed, Misused
from syncline.samples.sign import SIGNERS, Call, signed
from webhook_gateway.senders import platforms, sender_type

app = typer.Typer()

GATEWAY = "http://127.0.0.1:8080"
TIMEOUT_S = 15.0  # no sender's deadline that is tried here is longer, but a lone try may wait


@app.command()
def send(
    fixture: Annotated[
        str, typer.Argument(help="PLATFORM or PLATFORM/NAME, as --list shows them.")
    ] = "",
    list_: Annotated[bool, typer.Option("--list", help="List the fixtures.")] = False,
    to: Annotated[
        str, typer.Option(metavar="CONNECTION", help="Empty: the one named as the platform.")
    ] = "",
    gateway: Annotated[
        str, typer.Option(envvar="SYNCLINE_GATEWAY_URL", help="Where the gateway listens.")
    ] = GATEWAY,
    public_url: Annotated[
        str,
        typer.Option(
            envvar="SYNCLINE_PUBLIC_URL",
            help="As the gateway was told: some platforms sign it. Empty: as --gateway.",
        ),
    ] = "",
    secret: Annotated[
        str,
        typer.Option(help="Reference, env:NAME or file:PATH. Empty: the connection's own."),
    ] = "",
    email: Annotated[str, typer.Option(help="Address of the person. Empty: a new one.")] = "",
    seed: Annotated[
        str, typer.Option(help="The same seed is the same person again. Empty: a new one.")
    ] = "",
    times: Annotated[
        int, typer.Option(min=1, max=1000, help="Send the same so often, as after a time-out.")
    ] = 1,
    dry: Annotated[bool, typer.Option("--dry", help="Print the request, send nothing.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Sign and post a sample webhook, as its platform would: for trying things out.

    Reads the connection from the cluster and its secret from this shell; with --secret no cluster
    is needed. Exit 1 where the answer is not 2xx.
    """
    if list_:
        _list(json_)
        return
    sample = _sample(fixture)
    name = to or sample.platform
    connection = None if secret else _connection(name)
    if connection is not None and connection.platform != sample.platform:
        raise Misused(f"connection {name} is of {connection.platform}, not of {sample.platform}")
    seed = seed or uuid.uuid4().hex
    now_ms = time.time_ns() // 1_000_000
    call = prepared(sample, name, connection, secret, gateway, public_url, seed, email, now_ms)
    if dry:
        _print(call, json_)
        return
    answers = [_post(call) for _ in range(times)]
    for answer in answers:
        if json_:
            print(cluster.as_json(answer | {"seed": seed}))
        else:
            body = f": {answer['body']}" if answer["body"] else ""
            print(f"{answer['status']} in {answer['took_ms']} ms{body}")
    if not json_:
        print(f"sent {sample} to {name}; the same person again: --seed {seed}")
    if bad := [a for a in answers if not 200 <= a["status"] < 300]:
        raise Failed(f"{len(bad)} of {len(answers)} were not taken")


def prepared(
    sample: samples.Sample,
    name: str,
    connection: Connection | None,
    secret: str,
    gateway: str,
    public_url: str,
    seed: str,
    email: str,
    now_ms: int,
) -> Call:
    """The signed request. `secret`: a reference, where there is no connection or another secret
    is meant. Raises Misused."""
    webhook = connection.webhook if connection else None
    reference = secret or (webhook.secret if webhook else "")
    try:
        value = resolve(reference).get_secret_value() if reference else ""
        options = _options(webhook)
    except SecretMissing as error:
        raise Misused(f"{error}; say which with --secret") from None
    # Of Salesforce the organisation's id is what its sender looks for.
    account = str(options.get("organization_id") or (connection.account if connection else ""))
    blanks = samples.values(now_ms, seed, account, email)
    path = f"/hooks/{name}"
    call = Call(
        url=gateway.rstrip("/") + path,
        public_url=(public_url or gateway).rstrip("/") + path,
        body=samples.filled(sample, blanks),
        headers={"Content-Type": sample.content_type, "User-Agent": "syncline-send"},
    )
    return signed(
        sample.platform,
        call,
        value,
        now_ms,
        options,
        secret_in_path=_secret_in_path(sample.platform, options, value),
    )


def _options(webhook: Webhook | None) -> dict[str, Any]:
    """References among them resolved. Raises SecretMissing, as its caller expects."""
    return {
        name: resolve(value).get_secret_value()
        if isinstance(value, str) and value.startswith(("env:", "file:"))
        else value
        for name, value in (webhook.options if webhook else {}).items()
    }


def _secret_in_path(platform: str, options: Mapping[str, Any], secret: str) -> bool:
    """As the sender of this connection says, where its options are whole."""
    kind = sender_type(platform)
    try:
        made = kind.spec.options.model_validate(options)
    except ValidationError:
        return kind.spec.secret_in_path
    return kind(made, [SecretStr(secret)]).spec.secret_in_path


def _shipped() -> list[samples.Sample]:
    there = SIGNERS.keys() & set(platforms())
    return [s for s in samples.samples() if s.platform in there]


def _sample(asked: str) -> samples.Sample:
    if not asked:
        raise Misused("which? `syncline send --list` shows all")
    for sample in _shipped():
        if asked in (str(sample), sample.platform):
            return sample
    raise Misused(f"no fixture {asked!r}; `syncline send --list` shows all")


def _list(json: bool) -> None:
    found = _shipped()
    if json:
        print(cluster.as_json([{"fixture": str(s), "type": s.content_type} for s in found]))
        return
    for sample in found:
        print(f"{sample!s:32} {sample.content_type}")


def _connection(name: str) -> Connection:
    with cluster.connected() as (settings, codec):
        definitions = Definitions(settings.kafka_config(), codec)
        found = definitions.connections().get(name)
        definitions.close()
    if found is None or found.webhook is None:
        raise Misused(f"no connection {name} that receives webhooks; see `syncline apply`, or --to")
    return found


def _post(call: Call) -> dict[str, Any]:
    began = time.monotonic()
    try:
        answer = httpx.post(
            call.url, content=call.body, headers=dict(call.headers), timeout=TIMEOUT_S
        )
    except httpx.HTTPError as error:
        where = call.url.partition("/hooks/")[0]  # what follows may hold a secret
        raise Failed(f"the gateway at {where} does not answer: {type(error).__name__}") from None
    took_ms = round((time.monotonic() - began) * 1000)
    return {"status": answer.status_code, "took_ms": took_ms, "body": answer.text}


def _print(call: Call, json: bool) -> None:
    if json:
        print(
            cluster.as_json(
                {"url": call.url, "headers": dict(call.headers), "body": call.body.decode()}
            )
        )
        return
    print(f"POST {call.url}")
    for header, value in call.headers.items():
        print(f"{header}: {value}")
    print(f"{os.linesep}{call.body.decode()}")
