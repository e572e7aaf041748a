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

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))

    def text(self) -> str:
        """For a person."""
        return (
            f"The list of {self.as_of} was made again, the same to the last byte: {self.rows:,} rows, {self.list_id}."
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
    if list_bytes(again) != list_bytes(was):
        raise NotReplayed(
            f"The list of {was['as_of']} must come out as it was published; it differs in {_differences(was, again)}. "
            "The tables or the settings were changed since."
        )
    return Replayed(as_of=was["as_of"], list_id=folder.name, rows=len(was["rows"]))


def _differences(was: Mapping[str, Any], again: Mapping[str, Any]) -> str:
    heads = [name for name in was if not isinstance(was[name], list) and was[name] != again.get(name)]
    then, now = ({row["account_id"]: row for row in made["rows"]} for made in (was, again))
    accounts = sorted(account for account in {*then, *now} if then.get(account) != now.get(account))
    told = [*heads, *accounts[:MOST_TOLD]]
    more = f" and {len(accounts) - MOST_TOLD} more accounts" if len(accounts) > MOST_TOLD else ""
    return (", ".join(told) or "what is not ranked") + more
