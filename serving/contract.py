"""What goes in and out over HTTP, typed: the requests are checked by it, and OpenAPI is written from it."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, field_validator
from pydantic.json_schema import models_json_schema

from serving.ledger.lists import SORTS

MAX_ROWS = 1000


class Row(BaseModel):
    """One account's features; they are checked against the model's own contract, row by row."""

    model_config = ConfigDict(extra="forbid")
    account_id: str = Field(min_length=1, examples=["acc-00042"])
    features: dict[str, Any] = Field(examples=[{"tenure_days": 400, "open_tickets": 3, "nps_last_score": None}])


class ScoreRequest(BaseModel):
    """Rows to score."""

    model_config = ConfigDict(extra="forbid")
    rows: list[Row] = Field(
        min_length=1, description=f"At most {MAX_ROWS}, each account once.", json_schema_extra={"uniqueItems": True}
    )
    reasons: StrictBool = False
    partial: StrictBool = Field(default=False, description="Take a feature that is left out for one that is not known.")

    @field_validator("rows")
    @classmethod
    def _once_each(cls, rows: list[Row]) -> list[Row]:
        return _unrepeated(rows, [row.account_id for row in rows])


def _written_out(value: object) -> object:
    """A day as text: a number would be taken for seconds since 1970, and a time for its day."""
    if not (isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value)) and type(value) is not date:
        raise ValueError("as_of must be a day as text, such as 2026-01-31")
    return value


class AccountsRequest(BaseModel):
    """Accounts to score from the features tenure has of them."""

    model_config = ConfigDict(extra="forbid")
    account_ids: list[Annotated[str, Field(min_length=1)]] = Field(
        min_length=1, examples=[["acc-00042"]], json_schema_extra={"uniqueItems": True}
    )
    as_of: Annotated[date, BeforeValidator(_written_out)] | None = Field(
        default=None, description="Midnight to look from; by default that of the latest list."
    )
    reasons: StrictBool = True

    @field_validator("account_ids")
    @classmethod
    def _once_each(cls, account_ids: list[str]) -> list[str]:
        return _unrepeated(account_ids, account_ids)


def _unrepeated(items: list[Any], ids: list[str]) -> list[Any]:
    if len(set(ids)) != len(ids):
        raise ValueError("each account_id must be sent once")
    return items


class Reason(BaseModel):
    """One group of features that raises or eases the risk, told by its strongest feature."""

    group: str
    feature: str
    value: float | None
    typical: float | None
    contribution: float = Field(description="Of the whole group, in log-odds.")
    actionable: bool
    text: str


class RowError(BaseModel):
    """Why one row could not be scored; its neighbours were."""

    code: Literal["unknown_feature", "missing_feature", "not_a_number", "unknown_account", "not_scored"]
    field: str | None
    message: str


class ScoredRow(BaseModel):
    """One answer, in the place of its row."""

    account_id: str
    probability: float | None
    band: Literal["low", "medium", "high", "critical"] | None
    reasons: list[Reason] | None
    eases: Reason | None
    error: RowError | None


class ScoreAnswer(BaseModel):
    """Which model and which data answered, and the rows."""

    model_version: str
    feature_as_of: str | None
    warnings: list[str]
    rows: list[ScoredRow]


class ListedRow(BaseModel):
    """One ranked account of a list."""

    rank: int
    is_listed: bool = Field(description="Whether it fits the team's capacity.")
    account_id: str
    name: str | None
    csm_id: str | None
    parent_id: str | None
    segment: str | None
    probability: float | None
    raw_score: float | None
    band: str | None
    part: Literal["now", "act"] | None
    mrr: float | None
    mrr_at_risk: float | None
    days_to_renewal: int | None
    days_to_notice_deadline: int | None
    reasons: list[Reason]
    eases: Reason | None
    play: dict[str, Any] | None
    change: dict[str, Any] | None


class Listed(BaseModel):
    """A page of a list; the accounts that are not ranked stand on its first page."""

    as_of: str
    list_id: str
    before: dict[str, Any] | None
    model_version: str
    model_artefact: str
    horizon_days: int
    base_rate: float | None
    heading: str
    counts: dict[str, int]
    total: int
    rows: list[ListedRow]
    leaving: list[dict[str, Any]] = []
    excluded: list[dict[str, Any]] = []
    left: list[dict[str, Any]] = []
    next: str | None
    warnings: list[str]


class Days(BaseModel):
    """The days of all lists, latest first."""

    days: list[str]


class Account(ListedRow):
    """What the newest list says of an account."""

    rank: int | None  # type: ignore[assignment]
    as_of: str
    state: Literal["scored", "leaving", "excluded", "gone"]
    because: str | None
    model_version: str
    levers: list[dict[str, Any]] = Field(description="What would lower the band: of the score, not of the customer.")
    warnings: list[str]


class History(BaseModel):
    """What each list said of an account, newest first."""

    account_id: str
    history: list[dict[str, Any]]


class Week(BaseModel):
    """A week of use; what cannot be told, and what lies before the account began, is null."""

    begins: str
    active_days: int | None = Field(description="Days with use, 0 to 7.")
    core_events: float | None
    active_users: int | None


class Event(BaseModel):
    """Something that happened to an account, or is planned."""

    date: str
    kind: str
    group: str = Field(description="The group of reasons that it speaks of.")
    id: str | None = Field(description="Of the ticket, invoice, contract, outage or step of onboarding.")
    value: float | None
    unit: str | None = Field(description="Of the value: severity, score, money, MRR, days or hours.")
    low: float | None = Field(description="The lower end of a score's scale.")
    high: float | None
    is_open: bool | None
    is_planned: bool
    text: str


class Timeline(BaseModel):
    """What an account's newest list knew of it: 26 weeks of use, the events of 182 days, and what is planned."""

    account_id: str
    as_of: str
    because: str | None = Field(description="Why there is no timeline.")
    weeks: list[Week] = Field(description="Oldest first; none where use is not known by the day.")
    events: list[Event] = Field(description="Newest first; what is still open is there however old.")
    warnings: list[str]


class Features(BaseModel):
    """The features that the model asks for."""

    features: list[dict[str, Any]]


class Model(BaseModel):
    """The version in use."""

    model_version: str
    artefact: str
    horizon_days: int
    base_rate: float
    evaluation: dict[str, Any]
    certificate: dict[str, Any]
    swap: dict[str, Any]


class Problem(BaseModel):
    """Any error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str


_ANSWERS: dict[str, tuple[str, type[BaseModel]]] = {
    "/v1/lists": ("The days that have a list", Days),
    "/v1/lists/{as_of}": ("The list of a day, or `latest`, in pages", Listed),
    "/v1/accounts/{account_id}": ("An account on the newest list that knows it", Account),
    "/v1/accounts/{account_id}/history": ("What each list said of an account", History),
    "/v1/accounts/{account_id}/timeline": ("What happened to an account, as its newest list knew it", Timeline),
    "/v1/features": ("The features the model asks for", Features),
    "/v1/model": ("The version in use and how it was judged", Model),
}
_POSTS: dict[str, tuple[str, type[BaseModel]]] = {
    "/v1/score": ("Score rows of features", ScoreRequest),
    "/v1/score_accounts": ("Score accounts that tenure knows", AccountsRequest),
}
_VIEW: dict[str, dict[str, Any]] = {
    "sort": {"type": "string", "enum": list(SORTS)},
    "order": {"type": "string", "enum": ["asc", "desc"]},
    "band": {"type": "string", "enum": ["low", "medium", "high", "critical"]},
    "csm": {"type": "string"},
    "q": {"type": "string"},
    "listed": {"type": "string", "enum": ["true", "false"]},
    "offset": {"type": "integer", "minimum": 0, "maximum": 10**9},
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_ROWS},
}  # fmt: skip
_ERRORS = {
    "/v1/score": (400, 401, 403, 408, 413, 415, 429, 503),
    "/v1/score_accounts": (400, 401, 403, 404, 408, 413, 415, 429, 503),
}
_OTHER_ERRORS = (400, 401, 403, 404, 405, 413, 415, 429, 503)
OPENAPI_PATH = "/v1/openapi.json"


def openapi(version: str) -> dict[str, Any]:
    """The OpenAPI document of all `/v1` routes."""
    models = [model for _, model in (*_ANSWERS.values(), *_POSTS.values())] + [ScoreAnswer, Problem]
    _, schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, Any] = {}
    for path, (summary, model) in _ANSWERS.items():
        parameters = [_parameter(name[1:-1], "path", {"type": "string"}) for name in path.split("/") if "{" in name]
        if path == "/v1/lists/{as_of}":
            parameters += [_parameter(name, "query", schema) for name, schema in _VIEW.items()]
        paths[path] = {"get": {**_operation(summary, model, _OTHER_ERRORS), "parameters": parameters}}
    for path, (summary, model) in _POSTS.items():
        body = {"required": True, "content": {"application/json": {"schema": _ref(model)}}}
        paths[path] = {"post": {**_operation(summary, ScoreAnswer, _ERRORS[path]), "requestBody": body}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "tenure", "version": version, "description": "Who is about to leave, why, and what to do."},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(summary: str, answer: type[BaseModel], errors: tuple[int, ...]) -> dict[str, Any]:
    told = {"description": "The answer.", "content": {"application/json": {"schema": _ref(answer)}}}
    problem = {"description": "Why not.", "content": {"application/problem+json": {"schema": _ref(Problem)}}}
    return {"summary": summary, "responses": {"200": told, **{str(status): problem for status in errors}}}


def _parameter(name: str, place: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
