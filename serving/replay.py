"""A past list made again from the tables as they are now, and whether it is the one that was published.

Features see only what was known at the instant, so the same tables give the same list, byte for byte. Where they do
not, something was changed after the fact, and the first differences are named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from features.errors import ConfigurationError, DataError
from features.settings import Settings
from features.tables import Tables
from serving.champion import Champion, kept_model
from serving.nightly import rules
from serving.publication import list_bytes, list_it_followed
from serving.published import published, read_list
from serving.risklist import risk_list
from serving.scoring import features_at, people_at

MOST_TOLD = 5


class NotReplayed(DataError):
    """The list made again is another one."""


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """A list that was made again and agreed."""

    as_of: str
    list_id: str
    rows: int
    erased: int = 0
    """Accounts of the list that were erased since; it can be made again without them only."""
    moved: tuple[str, ...] = ()
    """Accounts whose rows come out other than published, for their peers are fewer."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))

    def text(self) -> str:
        """For a person."""
        if self.erased:
            return self._without_erased()
        return (
            f"The list of {self.as_of} was made again, the same to the last byte: {self.rows:,} rows, {self.list_id}."
        )

    def _without_erased(self) -> str:
        told = f"Of the list of {self.as_of} {self.erased:,} accounts were erased since ({self.list_id})."
        if not self.moved:
            return f"{told} The other {self.rows:,} rows come out as published, to the last byte."
        return (
            f"{told} Of the other {self.rows:,} rows {len(self.moved):,} come out otherwise than published: features "
            "that compare an account with its peers, and loads of its owner, are made without those who were erased."
        )


def replay(tables: Tables, settings: Settings, *, as_of: datetime, version: str | None) -> Replayed:
    """Make the published list of `as_of` again with the model that made it, and compare.

    Parameters
    ----------
    version : the model version that it must have been made by; None for whichever it was

    Raises
    ------
    DataError
        There is no list of that day.
    ConfigurationError
        It was made by another version, or its model is kept no more.
    NotReplayed
        It comes out differently; names what differs.
    """
    folder = published(settings, f"{as_of:%Y-%m-%d}")
    was = read_list(folder)
    if version not in (None, was["model_version"]):
        raise ConfigurationError(
            f"The list of {was['as_of']} must have been made by version {version}; it was by {was['model_version']}. "
            "Leave --model out, or name that one."
        )
    model = kept_model(settings, was["model_artefact"])
    if model is None:
        raise ConfigurationError(
            f"The model of the list of {was['as_of']} must be kept in {settings.state_dir}/models; artefact "
            f"{was['model_artefact'][:12]} is not there as it was signed. Put it back from a backup."
        )
    champion = Champion(model=model, version=was["model_version"], artefact=was["model_artefact"])
    features, people = features_at(tables, settings, as_of), people_at(tables, settings, as_of)
    before = list_it_followed(settings, was)
    again = risk_list(champion, features, people, rules(settings), as_of=as_of, before=before).risk_list
    if erased := was["counts"].get("erased", 0):
        return _replayed_without(was, again, list_id=folder.name, erased=erased)
    if list_bytes(again) != list_bytes(was):
        raise NotReplayed(
            f"The list of {was['as_of']} must come out as it was published; it differs in {_differences(was, again)}. "
            "The tables, the settings or tenure itself were changed since."
        )
    return Replayed(as_of=was["as_of"], list_id=folder.name, rows=len(was["rows"]))


def _replayed_without(was: Mapping[str, Any], again: Mapping[str, Any], *, list_id: str, erased: int) -> Replayed:
    """Compare what can be compared: the heading, who is in the list, and each row but its published place."""
    again = {**again, "counts": was["counts"], "rows": _in_published_places(was, again)}
    heads = [name for name in was if not isinstance(was[name], list) and was[name] != again.get(name)]
    then, now = ({row["account_id"]: row for row in made["rows"]} for made in (was, again))
    if heads or then.keys() != now.keys():
        raise NotReplayed(
            f"The list of {was['as_of']} must come out as it was published but for {erased} erased accounts; it "
            f"differs in {_differences(was, again)}. The tables, the settings or tenure itself were changed since."
        )
    moved = tuple(sorted(account for account in then if then[account] != now[account]))
    return Replayed(as_of=was["as_of"], list_id=list_id, rows=len(then), erased=erased, moved=moved)


def _in_published_places(was: Mapping[str, Any], again: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows made again, with the rank that each had among those who were erased."""
    places = {row["account_id"]: {name: row[name] for name in ("rank", "is_listed")} for row in was["rows"]}
    return [{**row, **places.get(row["account_id"], {})} for row in again["rows"]]


def _differences(was: Mapping[str, Any], again: Mapping[str, Any]) -> str:
    heads = [name for name in was if not isinstance(was[name], list) and was[name] != again.get(name)]
    then, now = ({row["account_id"]: row for row in made["rows"]} for made in (was, again))
    accounts = sorted(account for account in {*then, *now} if then.get(account) != now.get(account))
    told = [*heads, *accounts[:MOST_TOLD]]
    more = f" and {len(accounts) - MOST_TOLD} more accounts" if len(accounts) > MOST_TOLD else ""
    return (", ".join(told) or "what is not ranked") + more
