"""Runs and versions in MLflow; the only module of training that knows it.

The store is a SQLite file in the state directory, or what MLFLOW_TRACKING_URI, MLFLOW_REGISTRY_URI and
MLFLOW_EXPERIMENT_NAME say.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version as installed
from pathlib import Path

# MLflow asks once, when it is imported; nothing leaves this machine unless its user says so.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from features.errors import ConfigurationError, DependencyDown
from features.settings import Settings
from training.evaluation import Evaluation
from training.model import ChurnModel, artefact_hash, load_tried_model, save_model, signing_key
from training.plots import calibration_plot, lift_plot, profit_plot
from training.train import Trained

EXPERIMENT = "tenure"
MODEL_NAME = "tenure-churn"
ARTEFACT = "artefact"
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
_REQUIREMENTS = ("lightgbm", "numpy", "pandas", "pyarrow", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A run, and the version in the registry that it gave."""

    version: str | None
    """None where the model is no boosted trees: it was logged alone."""
    alias: str | None
    run_id: str
    artefact: str | None
    """sha256 of the artefact."""


def model_name() -> str:
    """The name of the registered model."""
    return os.environ.get("TENURE_MODEL_NAME", MODEL_NAME)


def connect(settings: Settings) -> MlflowClient:
    """A client of the configured store, made in the state directory where none is configured."""
    if named := os.environ.get("MLFLOW_TRACKING_URI"):
        mlflow.set_tracking_uri(named)  # Another company of this process may have had another one.
    else:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        mlflow.set_tracking_uri(f"sqlite:///{settings.state_dir / 'mlflow.db'}")
        # MLflow writes its choice into the environment, where the next company would take it for its user's.
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    return MlflowClient()


def log_and_register(trained: Trained, settings: Settings, *, name: str | None = None) -> Registered:
    """Log one run with everything a reader needs to judge it, and register its model, by default as `model_name()`.

    The first version that the leakage gate lets pass becomes champion, every other one challenger.
    """
    try:
        client = connect(settings)
        _choose_experiment(client, settings)
        kind = f"{trained.recipe['kind']}, seed {settings.train.seed}"
        with mlflow.start_run(run_name=kind) as run, tempfile.TemporaryDirectory() as folder:
            _log_run(trained, settings)
            if trained.model is None:
                return Registered(version=None, alias=None, run_id=run.info.run_id, artefact=None)
            artefact = Path(folder) / ARTEFACT
            save_model(trained.model, artefact, signing_key(settings.state_dir))
            registered = _register(client, trained, trained.model, artefact, name=name or model_name())
            # By its version a reader of MLflow's pages finds the run that `tenure models` lists.
            client.update_run(run.info.run_id, name=f"version {registered.version}: {kind}")
            return registered
    except MlflowException as error:
        raise DependencyDown(
            f"MLflow must answer at {mlflow.get_tracking_uri()}; {str(error).splitlines()[0]}. "
            "Start it or correct MLFLOW_TRACKING_URI, then train again; the champion is as it was."
        ) from error


def _choose_experiment(client: MlflowClient, settings: Settings) -> None:
    if os.environ.get("MLFLOW_RUN_ID"):
        return  # Started by `mlflow run`, which made the run already.
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    if client.get_experiment_by_name(name) is None and not os.environ.get("MLFLOW_TRACKING_URI"):
        # Beside the database, not in whatever folder the command was started from.
        client.create_experiment(name, artifact_location=(settings.state_dir / "mlartifacts").as_uri())
    mlflow.set_experiment(name)


def _log_run(trained: Trained, settings: Settings) -> None:
    evaluation, audit = trained.evaluation, trained.audit
    mlflow.log_params({**asdict(settings.label), **asdict(settings.train), "trees": evaluation.rounds})
    mlflow.set_tags(
        {
            **audit.hashes,
            "recipe": trained.recipe["kind"],
            "leakage": audit.verdict[:5000],
            "no_signal": str(evaluation.why_no_signal() is not None).lower(),
        }
    )
    mlflow.log_metrics(_flat(evaluation))
    for step, figures in enumerate(evaluation.views["instants"].values()):
        told = {f"fold.{name}": value for name, value in figures.items() if value is not None}
        mlflow.log_metrics(told, step=step)
    mlflow.log_dict(evaluation.as_dict(), "evaluation.json")
    mlflow.log_dict(audit.as_dict(), "certificate.json")
    mlflow.log_dict({"features": trained.described}, "features.json")
    mlflow.log_text(trained.card, "card.md")
    mlflow.log_figure(profit_plot(evaluation.views["money"]), "plots/profit.png")
    mlflow.log_figure(calibration_plot(evaluation.predictions), "plots/calibration.png")
    curves = {"model": "probability", **{name: name for name in evaluation.baselines}}
    mlflow.log_figure(lift_plot(evaluation.predictions, curves), "plots/lift.png")
    rows = trained.dataset.rows[["account_id", "as_of", *trained.dataset.features]]
    mlflow.log_input(mlflow.data.from_pandas(rows, name="snapshots"), context="training")


def _flat(evaluation: Evaluation) -> dict[str, float]:
    """Each figure under its name, its interval under `_low` and `_high`, a baseline's under the baseline's name."""
    flat: dict[str, float] = {}
    for prefix, figures in {"": evaluation.figures, **evaluation.baselines}.items():
        for name, estimate in figures.items():
            ends = {"": estimate.value, "_low": estimate.low, "_high": estimate.high}
            key = f"{prefix}.{name}" if prefix else name
            flat |= {key + end: value for end, value in ends.items() if value is not None}
    return flat


def _register(client: MlflowClient, trained: Trained, model: ChurnModel, artefact: Path, *, name: str) -> Registered:
    example = pd.DataFrame(model.golden[list(model.features)].head(3))
    logged = mlflow.pyfunc.log_model(
        name="model",
        python_model=str(Path(__file__).with_name("mlflow_model.py")),
        artifacts={ARTEFACT: str(artefact)},
        signature=_signature(model.features),
        input_example=example,
        pip_requirements=[f"{package}=={installed(package)}" for package in _REQUIREMENTS],
    )
    if not _exists(client, name):
        client.create_registered_model(name)
    created = client.create_model_version(name, logged.model_uri, run_id=logged.run_id, model_id=logged.model_id)
    # By the alias, not by the count: a first registration that broke off left a name without a champion.
    is_first = CHAMPION not in client.get_registered_model(name).aliases
    alias = CHAMPION if is_first and not trained.audit.faults else CHALLENGER
    client.set_registered_model_alias(name, alias, created.version)
    digest = artefact_hash(artefact)
    client.set_tag(logged.run_id, "artefact", digest)
    client.set_model_version_tag(name, created.version, "artefact", digest)
    return Registered(version=str(created.version), alias=alias, run_id=logged.run_id, artefact=digest)


def _exists(client: MlflowClient, name: str) -> bool:
    return bool(client.search_registered_models(f"name = '{name}'"))


def _signature(features: tuple[str, ...]) -> ModelSignature:
    # Double for all, for integer columns would refuse a missing value.
    inputs = Schema([ColSpec(DataType.double, feature, required=False) for feature in features])
    return ModelSignature(inputs=inputs, outputs=Schema([ColSpec(DataType.double, "probability")]))


def versions(settings: Settings) -> list[dict[str, str]]:
    """Registered versions, newest first: version, aliases, run, artefact."""
    client = connect(settings)
    name = model_name()
    if not _exists(client, name):
        return []
    aliases = client.get_registered_model(name).aliases
    found = sorted(client.search_model_versions(f"name = '{name}'"), key=lambda item: -int(item.version))
    return [
        {
            "version": str(item.version),
            "alias": ", ".join(sorted(alias for alias, number in aliases.items() if str(number) == str(item.version))),
            "run_id": item.run_id,
            "artefact": item.tags.get("artefact", ""),
        }
        for item in found
    ]


def aliases(settings: Settings) -> dict[str, str]:
    """Alias → version, of the registered model; none where nothing was registered."""
    client = connect(settings)
    name = model_name()
    if not _exists(client, name):
        return {}
    return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}


def load_version(settings: Settings, version: str) -> ChurnModel:
    """The model of a version, verified before it is parsed.

    Raises
    ------
    ConfigurationError
        There is no such version, or its artefact is not what was signed.
    """
    client = connect(settings)
    name = model_name()
    try:
        client.get_model_version(name, version)
    except MlflowException as error:
        known = [item["version"] for item in versions(settings)]
        raise ConfigurationError(
            f"Version '{version}' must be registered as {name}; found versions {known}. `tenure models` lists them."
        ) from error
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version}")) / "artifacts" / ARTEFACT
    return load_tried_model(folder, settings.state_dir)


def champion(settings: Settings) -> tuple[str, ChurnModel]:
    """The version that carries the alias `champion`, and its model.

    Raises
    ------
    ConfigurationError
        There is none, or its artefact is not what was signed.
    """
    named = aliases(settings)
    if "champion" not in named:
        raise ConfigurationError(
            f"A version must carry the alias 'champion'; found aliases {sorted(named)}. Run `tenure train`, and if its "
            "gate refused the version, do as it says."
        )
    return named["champion"], load_version(settings, named["champion"])


def move_aliases(settings: Settings, moves: Mapping[str, str | None]) -> None:
    """Set each alias to a version, or take it away where the version is None."""
    client = connect(settings)
    for alias, version in moves.items():
        if version is None:
            client.delete_registered_model_alias(model_name(), alias)
        else:
            client.set_registered_model_alias(model_name(), alias, version)


def tag_version(settings: Settings, version: str, tags: Mapping[str, str]) -> None:
    """Tags that a reader of the registry sees beside a version."""
    client = connect(settings)
    for name, value in tags.items():
        client.set_model_version_tag(model_name(), version, name, value)
