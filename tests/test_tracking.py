"""What a run leaves in MLflow: enough to judge it, and a model that serving can verify and use without MLflow."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from features.errors import ConfigurationError, DependencyDown
from serving.champion import load_champion
from training.model import FILES, MANIFEST, artefact_hash, load_model, signing_key
from training.tracking import ARTEFACT, CHAMPION, connect, log_and_register, model_name, versions

pytestmark = [
    # ibis 12 still asks pandas 3 for this option.
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"),
    # MLflow 3.17 on SQLAlchemy 2.1, raised while its own tables are set up.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
    # MLflow 3.17 on pandas 3, when it looks at a table of data and at the columns of an example.
    pytest.mark.filterwarnings("ignore:Starting with pandas version 4.0 all arguments of all:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning"),
    # MLflow reads the type hints of the model from code; the signature says what it needs.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

NOW = datetime(2026, 1, 1)
VARIABLES = (
    "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID", "TENURE_MODEL_NAME",
    "TENURE_SIGNING_KEY",
)  # fmt: skip


def forget_stores():
    """As in a new process: MLflow has been told of no store."""
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)
    for name in VARIABLES:
        os.environ.pop(name, None)


@pytest.fixture(scope="module", autouse=True)
def started_in(tmp_path_factory):
    """An empty folder to start from, no store of the person who runs the tests, and none left for later tests."""
    before = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    forget_stores()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        yield Path.cwd()
    forget_stores()
    os.environ.update(before)


@pytest.fixture(scope="module")
def settings(generated, tmp_path_factory):
    """Those of the generated company, with a state of its own."""
    return replace(generated[0], state_dir=tmp_path_factory.mktemp("state") / ".tenure")


@pytest.fixture(scope="module")
def registered(settings, trained):
    """Two versions of the same model."""
    return [log_and_register(trained, settings) for _ in range(2)]


@pytest.fixture
def run(settings, registered):
    forget_stores()
    return connect(settings).get_run(registered[0].run_id)


@pytest.fixture
def another(settings, tmp_path):
    """Settings of a company that shares nothing with the first."""
    return replace(settings, state_dir=tmp_path / "state")


def downloaded(run, path, folder):
    return Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=path, dst_path=str(folder)))


# Versions


def test_the_first_version_is_champion_and_the_next_challenger(registered):
    assert [(made.version, made.alias) for made in registered] == [("1", "champion"), ("2", "challenger")]


def test_versions_are_listed_newest_first(settings, registered):
    first, second = registered

    assert versions(settings) == [
        {"version": "2", "alias": "challenger", "run_id": second.run_id, "artefact": second.artefact},
        {"version": "1", "alias": "champion", "run_id": first.run_id, "artefact": first.artefact},
    ]


def test_the_same_model_twice_is_the_same_artefact_in_two_runs(registered):
    first, second = registered

    assert first.artefact == second.artefact
    assert first.run_id != second.run_id


def test_the_store_stands_in_the_state_directory(settings, registered, run):
    assert (settings.state_dir / "mlflow.db").is_file()
    assert run.info.artifact_uri.startswith((settings.state_dir / "mlartifacts").as_uri())


def test_nothing_is_written_where_the_command_was_started(registered, started_in):
    assert [path for path in started_in.rglob("*") if path.is_file()] == []


# The run


def test_a_run_tells_how_it_was_made(run, settings, trained):
    params = run.data.params

    assert params["horizon_days"] == "90"
    assert params["grace_days"] == "30"
    assert params["seed"] == str(settings.train.seed)
    assert params["trees"] == str(trained.evaluation.rounds)
    assert run.data.tags["data"] == trained.dataset.identity
    assert run.data.tags["catalogue"] == trained.model.catalogue
    assert run.data.tags["no_signal"] == str(trained.model.no_signal).lower()


def test_a_run_is_named_by_its_version(run, registered, settings):
    first, _ = registered
    assert run.info.run_name == f"version {first.version}: trees, seed {settings.train.seed}"


def test_a_run_names_the_artefact_it_made(run, registered):
    assert run.data.tags["artefact"] == registered[0].artefact


def test_a_run_has_each_figure_with_both_ends_of_its_interval(run, trained):
    judged = trained.evaluation
    for prefix, figures in {"": judged.figures, **{f"{n}.": f for n, f in judged.baselines.items()}}.items():
        for name, estimate in figures.items():
            told = [run.data.metrics.get(f"{prefix}{name}{end}") for end in ("", "_low", "_high")]
            assert told == [estimate.value, estimate.low, estimate.high]
    assert {"auc", "auc_low", "auc_high", "prior.log_loss"} <= set(run.data.metrics)


def test_a_run_names_the_data_it_learned_from(run):
    (told,) = run.inputs.dataset_inputs

    assert told.dataset.name == "snapshots"
    assert {tag.key: tag.value for tag in told.tags} == {"mlflow.data.context": "training"}


def test_a_run_holds_its_figures_its_card_and_its_plots(run, trained, tmp_path):
    figures = json.loads(downloaded(run, "evaluation.json", tmp_path).read_text())

    assert figures == json.loads(json.dumps(trained.evaluation.as_dict()))
    assert downloaded(run, "card.md", tmp_path).read_text() == trained.model.card
    for plot in ("plots/calibration.png", "plots/lift.png"):
        assert downloaded(run, plot, tmp_path).read_bytes().startswith(b"\x89PNG")


# The model


def test_the_registered_model_holds_the_signed_artefact_whole(settings, registered, trained):
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{model_name()}/1")) / "artifacts" / ARTEFACT
    read = load_model(folder, signing_key(settings.state_dir))
    rows = trained.dataset.rows

    assert {path.name for path in folder.iterdir()} == {*FILES, MANIFEST}
    assert artefact_hash(folder) == registered[0].artefact
    np.testing.assert_array_equal(read.raw_scores(rows), trained.model.raw_scores(rows))


def test_a_registered_model_holds_no_pickle(registered):
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{model_name()}/1"))

    assert [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib")] == []
    assert not any(path.read_bytes()[:2] in (b"\x80\x04", b"\x80\x05") for path in folder.rglob("*") if path.is_file())


def test_serving_finds_the_champion_with_the_same_scores(settings, registered, trained):
    champion = load_champion(settings)
    rows = trained.dataset.rows

    assert (champion.version, champion.artefact) == ("1", registered[0].artefact)
    np.testing.assert_array_equal(champion.model.raw_scores(rows), trained.model.raw_scores(rows))
    np.testing.assert_array_equal(champion.model.probabilities(rows), trained.model.probabilities(rows))


def test_serving_goes_on_from_what_it_kept_when_the_registry_is_gone(settings, registered, trained):
    load_champion(settings)
    database = settings.state_dir / "mlflow.db"
    database.rename(settings.state_dir / "away.db")
    forget_stores()
    try:
        champion = load_champion(settings)
        assert not database.exists()
    finally:
        database.unlink(missing_ok=True)
        (settings.state_dir / "away.db").rename(database)

    assert (champion.version, champion.artefact) == ("1", registered[0].artefact)
    np.testing.assert_array_equal(
        champion.model.raw_scores(trained.dataset.rows), trained.model.raw_scores(trained.dataset.rows)
    )


def test_a_kept_model_that_was_changed_is_refused_all_the_same(settings, registered):
    champion = load_champion(settings)
    kept = settings.state_dir / "models" / champion.artefact / "model.txt"
    database, original = settings.state_dir / "mlflow.db", kept.read_bytes()
    kept.write_bytes(original[:-1] + b"x")
    database.rename(settings.state_dir / "away.db")
    forget_stores()
    try:
        with pytest.raises(ConfigurationError, match=r"\['model.txt'\] changed"):
            load_champion(settings)
    finally:
        kept.write_bytes(original)
        (settings.state_dir / "away.db").rename(database)


def test_mlflow_s_own_tools_score_with_the_same_probabilities(settings, registered, trained):
    connect(settings)
    model = mlflow.pyfunc.load_model(f"models:/{model_name()}/1")
    example = model.input_example
    told = model.predict(example)

    assert list(example.columns) == list(trained.model.features)
    assert list(told.columns) == ["probability"]
    np.testing.assert_array_equal(told.probability, trained.model.probabilities(example))


# Stores


def test_nobody_is_champion_where_nothing_was_trained(another):
    forget_stores()

    with pytest.raises(ConfigurationError, match="A champion must be in the registry; found none"):
        load_champion(another)
    assert versions(another) == []
    forget_stores()


def test_a_registry_that_does_not_answer_is_a_dependency_down(another, trained, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://registry")
    mlflow.set_tracking_uri("nowhere://registry")
    try:
        with pytest.raises(DependencyDown, match="MLflow must answer at nowhere://registry") as down:
            log_and_register(trained, another)
    finally:
        forget_stores()
    assert down.value.exit_code == 69


def test_a_store_named_by_the_environment_is_used(another, tmp_path):
    forget_stores()
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path / 'given.db'}"
    try:
        assert versions(another) == []
        assert (tmp_path / "given.db").is_file()
        assert not another.state_dir.exists()
    finally:
        forget_stores()


def test_two_companies_in_one_process_keep_their_stores_apart(settings, another):
    """`tenure.open` can be called twice in a notebook."""
    forget_stores()
    connect(settings)
    connect(another)
    used = mlflow.get_tracking_uri()
    forget_stores()

    assert used == f"sqlite:///{another.state_dir / 'mlflow.db'}"


def test_a_listing_before_the_training_does_not_move_the_store(another, trained, tmp_path, monkeypatch):
    """The artefacts stand beside the database, whatever was asked of it before and wherever the command started."""
    forget_stores()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    try:
        versions(another)
        log_and_register(trained, another)
    finally:
        forget_stores()

    assert [path for path in (tmp_path / "here").rglob("*") if path.is_file()] == []
    assert (another.state_dir / "mlartifacts").is_dir()


def test_the_first_version_becomes_champion_though_a_run_broke_off_before(another, trained):
    """A name without versions is what a run leaves that stops between the two steps of registering."""
    forget_stores()
    try:
        connect(another)
        MlflowClient().create_registered_model(model_name())
        assert log_and_register(trained, another).alias == CHAMPION
        assert load_champion(another).version == "1"
    finally:
        forget_stores()
