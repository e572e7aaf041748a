"""The model in use: found by its alias in the registry, verified, kept; the only module of serving that knows MLflow.

What was once verified is kept beside the state under its hash, so that scoring goes on while the registry is down.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# MLflow asks once, when it is imported; nothing leaves this machine unless its user says so.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from features.errors import CannotWrite, ConfigurationError
from features.settings import Settings
from training.model import ChurnModel, artefact_hash, load_tried_model

MODEL_NAME = "tenure-churn"
ALIAS = "champion"
ARTEFACT = "artifacts/artefact"
POINTER = "champion.json"
ONCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
"""How a registry is asked, unless the environment says otherwise: MLflow itself would try again for four minutes."""


class NoChampion(ConfigurationError):
    """No model was ever champion here."""


@dataclass(frozen=True, kw_only=True)
class Champion:
    """A verified model and its version in the registry."""

    model: ChurnModel
    version: str
    artefact: str
    """sha256 of the artefact."""


def load_champion(settings: Settings) -> Champion:
    """The version that carries the alias `champion`; the last one that was verified while the registry is down.

    Raises
    ------
    ConfigurationError
        There is no champion yet, or its artefact is not what was signed.
    """
    try:
        with _asking_once():
            version, folder = _from_registry(settings)
    except (MlflowException, OSError) as error:
        version, folder = _kept(settings, error)
    model = load_tried_model(folder, settings.state_dir)
    _require_certificate(model, version)
    digest = artefact_hash(folder)
    try:
        _keep(folder, version, digest, settings)
    except OSError as error:
        raise CannotWrite(
            f"{settings.state_dir} must be writable, to keep the champion in; {error.strerror}. "
            "Free space, change its permissions, or set [state] dir."
        ) from error
    return Champion(model=model, version=version, artefact=digest)


def registered_version(settings: Settings) -> str | None:
    """The version that carries the alias now; None while the registry cannot say."""
    try:
        with _asking_once():
            return _champion_version(settings)
    except (MlflowException, OSError):
        return None


def kept_model(settings: Settings, artefact: str) -> ChurnModel | None:
    """The model of an artefact that was champion here before; None where it is not kept, or not as it was signed."""
    folder = settings.state_dir / "models" / artefact
    try:
        return load_tried_model(folder, settings.state_dir) if folder.is_dir() else None
    except ConfigurationError:
        return None


def _require_certificate(model: ChurnModel, version: str) -> None:
    if not model.certificate.get("is_valid"):
        raise ConfigurationError(
            f"The champion, version {version}, must carry a leakage certificate that holds; found "
            f"'{model.certificate.get('verdict', 'none')}'. Promote another version, or accept the feature with a "
            "reason in [leakage.accept] and train again."
        )


@contextmanager
def _asking_once() -> Iterator[None]:
    """A registry that is down is given up at once: what it gave before is kept here."""
    chosen = {name: value for name, value in ONCE.items() if name not in os.environ}
    os.environ.update(chosen)
    try:
        yield
    finally:
        for name in chosen:
            os.environ.pop(name, None)


def _from_registry(settings: Settings) -> tuple[str, Path]:
    version = _champion_version(settings)
    name = model_name()
    return version, Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version}")) / ARTEFACT


def model_name() -> str:
    """The registered model of this company."""
    return os.environ.get("TENURE_MODEL_NAME", MODEL_NAME)


def _champion_version(settings: Settings) -> str:
    if named := os.environ.get("MLFLOW_TRACKING_URI"):
        mlflow.set_tracking_uri(named)  # Another company of this process may have had another one.
    else:
        database = settings.state_dir / "mlflow.db"
        if not database.is_file():
            raise FileNotFoundError(f"no registry at {database}")
        mlflow.set_tracking_uri(f"sqlite:///{database}")
        # MLflow writes its choice into the environment, where the next company would take it for its user's.
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    return str(MlflowClient().get_model_version_by_alias(model_name(), ALIAS).version)


def _kept(settings: Settings, error: Exception) -> tuple[str, Path]:
    pointer = settings.state_dir / POINTER
    if not pointer.is_file():
        raise NoChampion(
            f"A champion must be in the registry; found none ({str(error).splitlines()[0]}). Run `tenure train` first, "
            "and if its gate refused the version, do as it says."
        ) from error
    kept = json.loads(pointer.read_text())
    return str(kept["version"]), settings.state_dir / "models" / str(kept["artefact"])


def _keep(folder: Path, version: str, digest: str, settings: Settings) -> None:
    place = settings.state_dir / "models" / digest
    if not place.is_dir():
        staged = place.with_suffix(f".{os.getpid()}")
        shutil.copytree(folder, staged)
        if place.is_dir():
            shutil.rmtree(staged)  # Another process was faster with the same artefact.
        else:
            os.replace(staged, place)
    pointer = settings.state_dir / POINTER
    staged = pointer.with_suffix(f".{os.getpid()}")
    staged.write_text(json.dumps({"version": version, "artefact": digest}))
    os.replace(staged, pointer)
