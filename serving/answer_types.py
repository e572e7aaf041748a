"""What goes out over HTTP, typed: OpenAPI is written from it."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

Rank = TypeVar("Rank", int, int | None)


class Reason(BaseModel):
    """One group of features that raises or eases the risk, told by its strongest feature."""

    group: str
    feature: str
    value: float | None
    typical: float | None
    percentile: float | None = Field(description="Among the known values the model learned from, 0 to 100.")
    contribution: float = Field(description="Of the whole group, in log-odds.")
    actionable: bool
    mixed: bool | None = Field(description="Whether features of the group speak against it; unknown of older lists.")
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
    rank_percentile: float | None = Field(description="Share of the latest list's accounts below it, 0 to 100.")
    reasons: list[Reason] | None
    eases: Reason | None
    error: RowError | None


class ScoreAnswer(BaseModel):
    """Which model and which data answered, and the rows."""

    model_version: str
    feature_as_of: str | None
    warnings: list[str]
    rows: list[ScoredRow]


class _Placed(BaseModel, Generic[Rank]):
    """What a list says of an account; its rank may be None where not only ranked accounts are told of."""

    rank: Rank
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


class ListedRow(_Placed[int]):
    """One ranked account of a list."""


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


class Account(_Placed[int | None]):
    """What the newest list says of an account."""

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
