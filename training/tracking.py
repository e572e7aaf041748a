"""Runs and versions in MLflow; the only module of training that knows it.

The store is a SQLite file in the state directory, or what MLFLOW_TRACKING_URI, MLFLOW_REGISTRY_URI and
MLFLOW_EXPERIMENT_NAME say.
"""

from __future__ import annotations

import os
import tempfile
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

from features.errors import DependencyDown
from features.settings import Settings
from training.evaluation import Evaluation
from training.model import artefact_hash, save_model, signing_key
from training.plots import calibration_plot, lift_plot
from training.train import Trained

EXPERIMENT = "tenure"
MODEL_NAME = "tenure-churn"
ARTEFACT = "artefact"
CHAMPION, CHALLENGER = "champion", "challenger"
_REQUIREMENTS = ("lightgbm", "numpy", "pandas", "pyarrow", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A version in the registry."""

    version: str
    alias: str
    run_id: str
    artefact: str
    """sha256 of the artefact."""


def model_name() -> str:
    """The name of the registered model."""
    return os.environ.get("TENURE_MODEL_NAME", MODEL_NAME)


def connect(settings: Settings) -> MlflowClient:
    """A client of the configured store, made in the state directory where none is configured."""
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        mlflow.set_tracking_uri(f"sqlite:///{settings.state_dir / 'mlflow.db'}")
        # MLflow writes its choice into the environment, where the next company would take it for its user's.
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    return MlflowClient()


def log_and_register(trained: Trained, settings: Settings) -> Registered:
    """Log one run with everything a reader needs to judge it, and register its model.

    The first version becomes champion, every later one challenger.
    """
    try:
        client = connect(settings)
        _choose_experiment(client, settings)
        with mlflow.start_run(), tempfile.TemporaryDirectory() as folder:
            artefact = Path(folder) / ARTEFACT
            save_model(trained.model, artefact, signing_key(settings.state_dir))
            _log_run(trained, settings, artefact)
            return _register(client, trained, artefact)
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


def _log_run(trained: Trained, settings: Settings, artefact: Path) -> None:
    evaluation = trained.evaluation
    mlflow.log_params({**asdict(settings.label), **asdict(settings.train), "trees": evaluation.rounds})
    mlflow.set_tags(
        {
            "data": trained.dataset.identity,
            "catalogue": trained.model.catalogue,
            "artefact": artefact_hash(artefact),
            "no_signal": str(trained.model.no_signal).lower(),
        }
    )
    mlflow.log_metrics(_flat(evaluation))
    mlflow.log_dict(evaluation.as_dict(), "evaluation.json")
    mlflow.log_dict(dict(trained.model.certificate), "certificate.json")
    mlflow.log_text(trained.model.card, "card.md")
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


def _register(client: MlflowClient, trained: Trained, artefact: Path) -> Registered:
    name = model_name()
    example = pd.DataFrame(trained.model.golden[list(trained.model.features)].head(3))
    logged = mlflow.pyfunc.log_model(
        name="model",
        python_model=str(Path(__file__).with_name("mlflow_model.py")),
        artifacts={ARTEFACT: str(artefact)},
        signature=_signature(trained.model.features),
        input_example=example,
        pip_requirements=[f"{package}=={installed(package)}" for package in _REQUIREMENTS],
    )
    if not _exists(client, name):
        client.create_registered_model(name)
    created = client.create_model_version(name, logged.model_uri, run_id=logged.run_id)
    # By the alias, not by the count: a first registration that broke off left a name without a champion.
    alias = CHALLENGER if CHAMPION in client.get_registered_model(name).aliases else CHAMPION
    client.set_registered_model_alias(name, alias, created.version)
    digest = artefact_hash(artefact)
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
