"""Which version is champion: by the gate alone, on the record, back within one step, and verified again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest

from features.errors import ConfigurationError
from features.settings import read_settings
from features.tables import open_tables
from serving.champion import load_champion
from training.promotion import AUDIT_FILE, GateRefused, promote, rollback
from training.tracking import aliases, log_and_register
from training.train import finish
from training.verify import NotVerified, verify

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
    pytest.mark.filterwarnings("ignore:Starting with pandas version 4.0 all arguments of all:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

NOW = datetime(2026, 1, 1)


def quiet(line):
    """No progress."""


@pytest.fixture(scope="module")
def settings(generated, tmp_path_factory):
    """Those of the generated company, with a registry of its own."""
    return replace(generated[0], state_dir=tmp_path_factory.mktemp("state") / ".tenure")


def faulty(trained, verdict):
    certificate = {**trained.model.certificate, "is_valid": False, "verdict": verdict}
    return replace(trained, model=replace(trained.model, certificate=certificate))


@pytest.fixture(scope="module")
def versions(settings, trained):
    """1 the champion, 2 the same recipe again, 3 one that knows the age of an account alone, 4 one that leaks."""
    alone = replace(trained.dataset, features=("tenure_days",))
    simple = finish(alone, trained.evaluation, trained.audit, settings, progress=quiet)
    offered = [trained, trained, simple, faulty(trained, "status: it reads accounts.status")]
    return [log_and_register(each, settings).version for each in offered]


def test_every_version_after_the_first_is_a_challenger(settings, versions):
    assert aliases(settings) == {"champion": "1", "challenger": "4"}


def test_the_same_recipe_replaces_the_champion_and_a_rollback_puts_it_back(settings, versions, generated):
    done = promote(generated[1], settings, "2", now=NOW, progress=quiet)

    assert (done.version, done.replaced) == ("2", "1")
    assert aliases(settings) | {"challenger": "-"} == {"champion": "2", "previous": "1", "challenger": "-"}
    assert load_champion(settings).version == "2"
    record = json.loads((settings.state_dir / "gate" / "version-2.json").read_text())
    assert record["outcome"] == "promote"
    assert len(record["hmac"]) == 64

    assert rollback(settings, now=NOW) == {"champion": "1", "previous": "2"}
    assert load_champion(settings).version == "1"
    lines = [json.loads(line) for line in (settings.state_dir / AUDIT_FILE).read_text().splitlines()]
    assert [(line["action"], line["from"], line["to"]) for line in lines] == [
        ("promote", "1", "2"), ("rollback", "2", "1"),
    ]  # fmt: skip


def test_a_model_that_knows_less_is_refused_and_the_champion_stays(settings, versions, generated):
    before = aliases(settings)
    with pytest.raises(GateRefused, match=r"the gate says (keep|reject)") as refused:
        promote(generated[1], settings, "3", now=NOW, progress=quiet)

    assert refused.value.exit_code == 78
    assert aliases(settings) == before


def test_a_model_that_leaks_is_refused_by_the_name_of_the_feature(settings, versions, generated):
    with pytest.raises(GateRefused, match=r"leakage: status: it reads accounts\.status"):
        promote(generated[1], settings, "4", now=NOW, progress=quiet)


def test_what_cannot_be_promoted_is_said(settings, versions, generated):
    with pytest.raises(ConfigurationError, match=r"Version '9' must be registered as tenure-churn; found versions \["):
        promote(generated[1], settings, "9", now=NOW, progress=quiet)
    champion = aliases(settings)["champion"]
    with pytest.raises(ConfigurationError, match=f"Version {champion} must not be champion yet"):
        promote(generated[1], settings, champion, now=NOW, progress=quiet)


def test_there_is_nothing_to_go_back_to_before_a_promotion(settings, trained, tmp_path):
    alone = replace(settings, state_dir=tmp_path / ".tenure")
    log_and_register(trained, alone)

    with pytest.raises(ConfigurationError, match=r"must carry the alias 'previous' to go back to; found .*'champion'"):
        rollback(alone, now=NOW)


def test_a_leaking_first_version_does_not_become_champion(settings, trained, tmp_path):
    alone = replace(settings, state_dir=tmp_path / ".tenure")
    audit = replace(trained.audit, embargo={**trained.audit.embargo, "holds": False})

    assert log_and_register(replace(trained, audit=audit), alone).alias == "challenger"
    with pytest.raises(ConfigurationError, match="A champion must be in the registry"):
        load_champion(alone)


def test_a_champion_without_a_valid_certificate_is_not_served(settings, trained, tmp_path):
    alone = replace(settings, state_dir=tmp_path / ".tenure")
    log_and_register(faulty(trained, "status: it reads accounts.status"), alone)

    with pytest.raises(ConfigurationError, match="must carry a leakage certificate that holds; found 'status"):
        load_champion(alone)


@pytest.mark.long("three certificates")
def test_a_certificate_holds_until_the_data_change(settings, versions, generated, tmp_path):
    assert verify(generated[1], settings, "1", progress=quiet).hashes["data"]

    copy = Path(shutil.copytree(settings.path.parent, tmp_path / "copy", ignore=shutil.ignore_patterns(".tenure")))
    tickets = pd.read_parquet(copy / "tickets.parquet")
    first = tickets.opened_at.sort_values().index[len(tickets) // 2]
    tickets.drop(index=first).to_parquet(copy / "tickets.parquet", index=False)
    changed = replace(read_settings(copy / "tenure.toml"), state_dir=settings.state_dir)
    with pytest.raises(NotVerified, match="the data, or what is known of them, changed"):
        verify(open_tables(changed, now=NOW), changed, "1", progress=quiet)
