"""What comes in over HTTP, typed: the requests are checked by it; and OpenAPI of that and of all answers."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, field_validator
from pydantic.json_schema import models_json_schema

from serving.answer_types import Account, Days, Features, History, Listed, Model, Problem, ScoreAnswer, Timeline
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
        min_length=1, max_length=MAX_ROWS, description="Each account once.", json_schema_extra={"uniqueItems": True}
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
_BAND = "(low|medium|high|critical)"
_VIEW: dict[str, dict[str, Any]] = {
    "sort": {"type": "string", "enum": list(SORTS)},
    "order": {"type": "string", "enum": ["asc", "desc"]},
    "band": {"type": "string", "pattern": f"^({_BAND}(,{_BAND})*)?$"},
    "csm": {"type": "string"},
    "q": {"type": "string"},
    "listed": {"type": "string", "enum": ["true", "false"]},
    "offset": {"type": "integer", "minimum": 0, "maximum": 10**9},
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_ROWS},
}  # fmt: skip
_ERRORS = {
    "/v1/score": (400, 401, 403, 408, 413, 415, 429, 503),
    "/v1/score_accounts": (400, 401, 403, 404, 408, 409, 413, 415, 429, 503),
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
