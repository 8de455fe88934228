"""The vocabulary of a platform's description, `connectors/platforms/<name>.yaml`.

What each word means stands beside it here, and in `description.schema.json`, from which editors
complete it. Paths and templates: `declared_forms.py`. What is known to a template of

    a row           person, row_id, object_id (where it is known), occurred_ms, occurred_s,
                    occurred_at, fields (all that are not `apart`, in their places, and our person
                    key in `key_field`), field.NAME
    a request body  rows (all), row (the first), and all that is known of the first row
    a read          cursor, limit, names (fields asked for), id, ids, field, value, values
    a job's reads   job (its name), cursor, limit
    everywhere      option.NAME; in `auth` also the secrets by name, and `token` after a login
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from connectors.declared_forms import names_of

__all__ = [
    "Answers", "Auth", "Cursor", "Description", "ErrorTable", "FieldForm", "JobForm", "ListForm",
    "Login",
    "ObjectForm", "OptionForm", "Read", "RecordForm", "Rule", "Verdict", "Write", "schema",
]  # fmt: skip


def _well_formed(template: Any) -> Any:
    names_of(template)
    return template


Path = Annotated[str, Field(pattern=r"^(\.|[^.\s]+(\.[^.\s]+)*)?$")]
Place = Annotated[str, Field(pattern=r"^[^.\s]+(\.[^.\s]+)*$")]
Filled = Annotated[Any, AfterValidator(_well_formed)]
Text = Annotated[str, AfterValidator(_well_formed)]
Conditions = dict[str, Any]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][\w-]*$")]


class _Closed(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class OptionForm(_Closed):
    """One thing that an operator fills in, beside the secrets."""

    about: str = Field(description="What it is and where to find it.")
    default: str | None = Field(default=None, description="Without one it must be given.")
    pattern: str = Field(default="", description="Regular expression that a value must fit.")


class Login(_Closed):
    """A request that gives a token (RFC 6749: `access_token`, `expires_in`), before the first one,
    shortly before it ends, and whenever a rule says `renew`."""

    method: Literal["GET", "POST"] = "POST"
    path: Text
    form: dict[str, Text] = Field(default={}, description="Form fields; they may hold secrets.")
    query: dict[str, Text] = Field(default={}, description="For what is not secret.")


class Auth(_Closed):
    """How a request proves whose it is."""

    headers: dict[str, Text] = Field(default={}, description="E.g. `authorization: Bearer {key}`.")
    basic: Text = Field(default="", description="`{user}:{password}` of HTTP Basic.")
    login: Login | None = None


Fate = Literal[
    "accepted", "parked", "retry", "throttled", "too_large", "halted", "renew", "exists",
]  # fmt: skip


class Rule(_Closed):
    """One line of the error table: all that it says must fit; the first that fits decides."""

    status: int | list[int] | None = None
    code: str | int | list[str | int] | None = Field(
        default=None, description="What stands at `errors.code`."
    )
    says: str = Field(default="", description="Text within `errors.words`, in any case.")
    when: Conditions = Field(default={}, description="Path in the answer to the values that fit.")
    is_: Fate = Field(
        alias="is",
        description="renew: log in again and send once more; exists: the object is there already, "
        "send the `known` form for the id found at `id`.",
    )
    wait_s: float | None = Field(default=None, description="throttled, retry: how long.")
    wait_header: str = Field(
        default="", pattern=r"^[a-z0-9-]*$", description="Header that says how long; lower case."
    )
    wait_form: Literal["seconds", "milliseconds", "unix_s"] = Field(
        default="seconds", description="unix_s is compared with the answer's `date` header."
    )
    window: str = Field(default="", description="Of the quota registry, where the answer tells.")
    id: Path = Field(default="", description="exists: path of the id, or of text that holds it.")
    pattern: str = Field(default="", description="exists: its first group is the id in that text.")


class ErrorTable(_Closed):
    """Failures of a request as a whole. What no rule fits: no answer, 408 and 5xx are tried again,
    a 2xx that is no success as well, 401 and 403 halt, 413 is split, 429 waits, the rest parks."""

    code: Path = Field(default="", description="Where the platform's code stands.")
    words: Path = Field(default="", description="Where its words stand.")
    field: Path = Field(
        default="", description="Where the refused field is named; of a pointer its last part."
    )
    rules: list[Rule] = []


class Verdict(_Closed):
    """What an answer says of single rows. The first verdict that names a row decides its fate."""

    each: Path = Field(default=".", description="List in the answer, or one object.")
    index: Path | None = Field(
        default=None, description="Where an entry says which row it is, from 0."
    )
    value: Path | None = Field(
        default=None, description="Where an entry has a value of its row; compared without case."
    )
    of: Text = Field(default="$person", description="Template of that value, from the row.")
    when: Conditions = Field(default={}, description="Only entries that fit.")
    is_: Literal["written", "unchanged", "accepted", "parked", "retry"] = Field(alias="is")
    id: Path = Field(default="", description="The object's id in the entry; without it no success.")
    code: Path = Field(default="", description="parked: the platform's code, in the entry.")
    words: Path = Field(default="", description="parked: its words, in the entry.")
    field: Path = Field(default="", description="parked: the refused field, in the entry.")
    named: str = Field(default="", description="parked: the code, where no entry says one.")
    names: str = Field(default="", description="parked: the field, where no entry says one.")


class _Request(_Closed):
    method: Literal["GET", "POST", "PUT", "PATCH"] = "POST"
    path: Text = Field(pattern=r"^/", description="Holes are percent-encoded.")
    query: dict[str, Text] = Field(default={}, description="What comes out empty is left out.")


class Answers(_Closed):
    """What an answer to rows looks like."""

    success: Conditions = Field(
        default={}, description="A 2xx where these do not hold is an error, see the error table."
    )
    only: list[str] | None = Field(
        default=None,
        description="Keys that the answer may have; any other: somebody else has answered.",
    )
    verdicts: list[Verdict] = []
    otherwise: Literal["retry", "accepted", "written"] = Field(
        default="retry",
        description="Rows that no verdict names. `written` and `accepted` where the platform "
        "answers only for the rows that it refuses.",
    )
    count: Path = Field(
        default="", description="Where the answer counts the rows that no verdict names."
    )
    id: Text = Field(default="$object_id | $person", description="The id, where it is known to us.")


class Write(_Request):
    """One way to send rows. The first whose `for` fits a row is taken; rows of different ways, or
    more than `rows_max`, never share a request."""

    for_: Literal["any", "known", "new"] = Field(
        default="any", alias="for", description="known: rows whose object's id is known."
    )
    rows_max: int = Field(default=0, ge=0, description="0: as the object type says.")
    row: Filled = Field(default="$fields", description="Template of one row.")
    body: Filled = Field(default="$rows", description="Template of the request's body.")
    answer: Answers | None = Field(default=None, description="Where it is another than `answer`.")


class Cursor(_Closed):
    """Where the next page begins."""

    next: Path = Field(default="", description="Where the answer says it; nothing there: the end.")
    parameter: str = Field(default="", description="`next` holds an address: its query parameter.")
    last: Path = Field(
        default="", description="Or: this path of the last record; a short page is the end."
    )


class Read(_Request):
    """One way to ask for objects."""

    method: Literal["GET", "POST", "PUT", "PATCH"] = "GET"
    body: Filled = None
    success: Conditions = Field(default={}, description="As for `answer`.")
    records: Path = Field(default="data", description="List of records, or one record.")
    rows_max: int = Field(default=1, ge=1, description="Largest page, or ids or values of one.")
    bytes_max: int = Field(default=2_500, ge=1, description="Length of all values of one request.")
    cursor: Cursor | None = None
    none: list[int] = Field(
        default=[404], description="ids, keys: statuses that mean: nothing found."
    )
    optional: bool = Field(
        default=False, description="An answer without `records` means: nothing found."
    )
    map: bool = Field(
        default=False, description="`records` is an object; its entries are {name, value}."
    )
    item: Path = Field(default=".", description="Where in an entry of `records` the object stands.")


class JobForm(_Closed):
    """Many rows in one job, whose verdicts come later: for bulk runs, where enough rows wait. The
    platform begins at once, so that a lost answer is a second job of the same rows."""

    rows_min: int = Field(ge=1, description="Fewer are not worth a job.")
    rows_max: int = Field(ge=1, description="Of one job.")
    bytes_max: int = Field(ge=1, description="Of the body that hands it over.")
    calls: int = Field(ge=1, description="Requests that one takes in all, about.")
    quota: str = Field(default="", description="Of those; else `write_quota`.")
    clears: bool = Field(default=True, description="false: rows that clear a field go without.")
    write: Write = Field(
        description="Hands it over; without a `row` each goes as in its own `write`. Its `answer` "
        "is what `results` say, each under its name; verdicts name rows by a `value`, as a job is "
        "asked about some of its rows too."
    )
    name: Path = Field(description="Where the answer to that names the job.")
    state: Read = Field(description="Asks how far it is; `records` is where its state stands.")
    ended: list[str] = Field(min_length=1, description="States that mean: all is said.")
    results: dict[Name, Read] = Field(min_length=1, description="Read when it has ended, whole.")


class RecordForm(_Closed):
    """What one object looks like when it is read."""

    id: Path = "id"
    values: Path = Field(default=".", description="Where its fields stand.")
    changed: Path = Field(default="", description="When it changed last.")
    changed_form: Literal["iso", "unix_s", "milliseconds"] = "iso"
    beside: list[Path] = Field(
        default=[], description="Objects whose fields count as if they stood beside the others."
    )


class FieldForm(_Closed):
    """One field that people map to. Fields that are not listed go where their dots say."""

    about: str = ""
    type: Literal["text", "number", "boolean", "time", "list", "object"] = "text"
    at: Place | None = Field(
        default=None, description="Its place in `$fields`; else the name, dots nest."
    )
    form: Filled = Field(default="$value", description="How the value looks there.")
    read: list[Path] = Field(
        default=[],
        description="Its places in a record's values, the first that is there; empty: `at`.",
    )
    apart: bool = Field(default=False, description="Not in `$fields`: the row names it itself.")
    clear: Any = Field(default=None, description="What is written to clear it.")


class ListForm(_Closed):
    """Fields whose names begin alike go into a list: `field.39` into `fieldValues`."""

    prefix: str
    into: Place
    form: Filled = Field(description="One entry; `$name` is what follows the prefix, `$value`.")
    clear: Any = None


class ObjectForm(_Closed):
    """One object type."""

    about: str = ""
    kind: Literal["state", "fact"] = Field(description="state: upserted; fact: appended once.")
    repeat: Literal["safe", "by_key", "unsafe"] = Field(
        description="What a request without an answer may suffer. by_key: safe through the "
        "idempotency key (`$row_id`) in the row."
    )
    evidence: Literal["answer", "none"] = Field(
        default="answer", description="none: the platform takes rows without a verdict."
    )
    rows_max: int = Field(ge=1, description="Of one request.")
    bytes_max: int | None = Field(default=None, description="Of one request's body.")
    key_field: str = Field(default="", description="Field that holds our person key.")
    key_option: str = Field(default="", description="Option that names it otherwise.")
    identity_field: str = Field(
        default="", description="Field that is the identity itself: such rows are never matched."
    )
    write_quota: str = "write"
    read_quota: str = "read"
    match_quota: str = ""
    fields: dict[str, FieldForm]
    lists: list[ListForm] = []
    write: list[Write] = Field(min_length=1)
    answer: Answers = Field(default=Answers(), description="To every `write` without its own.")
    job: JobForm | None = None
    record: RecordForm = RecordForm()
    changes: Read | None = Field(default=None, description="A page of all, or of what changed.")
    ids: Read | None = Field(default=None, description="By id.")
    keys: Read | None = Field(default=None, description="By the value of a field, for matching.")
    field_list: Read | None = Field(default=None, description="The live list of fields.")
    field_name: Path = Field(default="name", description="A field's name in an entry of that.")


class Description(_Closed):
    """A platform."""

    platform: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    about: str = Field(description="One line: what comes in and goes out.")
    api: str = Field(description="Version and page of the API.")
    read_on: str = Field(pattern=r"^\d{4}-\d\d-\d\d$", description="When those pages were read.")
    traps: str = Field(default="", description="What a reader would not expect.")
    base_url: str = Field(pattern=r"^https://", description="`{name}` stands for an option.")
    options: dict[Name, OptionForm] = {}
    secrets: dict[Name, str] = Field(min_length=1, description="Name to what it is.")
    auth: Auth
    headers: dict[str, Text] = Field(default={}, description="Of every request.")
    probe: Read = Field(description="Something cheap that needs the key: is the account there?")
    success: Conditions = Field(default={}, description="What every good answer holds.")
    errors: ErrorTable = ErrorTable()
    objects: dict[Name, ObjectForm] = Field(min_length=1)
    webhook: dict[str, Any] | None = Field(
        default=None, description="What it sends by itself; in the gateway's words."
    )


def schema(webhook: Mapping[str, Any] | None = None) -> str:
    """JSON Schema of a description, for editors. `webhook`: that of its section `webhook`, which
    the gateway owns; kept, with it, in `platforms/description.schema.json`."""
    whole = Description.model_json_schema(by_alias=True)
    if webhook is not None:
        own = dict(webhook)
        whole["$defs"] |= own.pop("$defs", {})
        whole["properties"]["webhook"] = own
    return json.dumps(whole, indent=2) + "\n"
