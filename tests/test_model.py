"""A model that comes back from its folder is the one that was signed, to the last bit, or it does not come back."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

import training.model
from features.errors import ConfigurationError
from training.model import FILES, MANIFEST, artefact_hash, load_model, load_tried_model, save_model, signing_key
from training.train import finish, prepare, train

# ibis 12 still asks pandas 3 for this option.
pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning")

YEAR_END = datetime(2026, 1, 1)
KEY = b"the key of this company"
REFUSED = "must be as it was signed|must hold manifest.json|must be signed with"
FLIPS, CUTS = (1000, 50) if os.environ.get("HYPOTHESIS_PROFILE") == "full" else (90, 9)


@pytest.fixture(scope="module")
def model(trained):
    """Judged by a single instant; whether that shows skill is not asked here."""
    return replace(trained.model, no_signal=False)


@pytest.fixture(scope="module")
def rows(trained):
    return trained.dataset.rows


@pytest.fixture
def artefact(model, tmp_path):
    save_model(model, tmp_path / "artefact", KEY)
    return tmp_path / "artefact"


@pytest.fixture
def unread(monkeypatch):
    """Fails the test if anything of the artefact is parsed."""

    def parsed(*arguments, **options):
        raise AssertionError("a refused artefact was parsed")

    monkeypatch.setattr(training.model, "Booster", parsed)
    monkeypatch.setattr(training.model.pq, "read_table", parsed)


def flipped(path, place, mask=1):
    content = bytearray(path.read_bytes())
    content[place] ^= mask
    path.write_bytes(bytes(content))


def resigned(folder, change):
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


# What comes back


def test_a_model_read_back_scores_every_row_as_before(artefact, model, rows):
    read = load_model(artefact, KEY)
    probability = model.probabilities(rows)

    np.testing.assert_array_equal(read.raw_scores(rows), model.raw_scores(rows))
    np.testing.assert_array_equal(read.probabilities(rows), probability)
    np.testing.assert_array_equal(read.contributions(read.matrix(rows))[0], model.contributions(model.matrix(rows))[0])
    np.testing.assert_array_equal(read.contributions(read.matrix(rows))[1], model.contributions(model.matrix(rows))[1])
    assert [read.band(value) for value in probability] == [model.band(value) for value in probability]


def test_a_model_read_back_knows_all_that_it_knew(artefact, model):
    read = load_model(artefact, KEY)
    kept = ("features", "calibrator", "base_rate", "no_signal", "horizon_days", "catalogue", "typical", "card")

    assert [getattr(read, name) for name in kept] == [getattr(model, name) for name in kept]
    assert read.evaluation == json.loads(json.dumps(model.evaluation))
    assert read.golden.equals(model.golden)


def test_a_model_read_back_is_written_as_the_same_artefact(artefact, tmp_path):
    save_model(load_model(artefact, KEY), tmp_path / "again", KEY)

    for name in (*FILES, MANIFEST):
        assert (tmp_path / "again" / name).read_bytes() == (artefact / name).read_bytes()


def test_a_hundred_golden_rows_at_least_travel_with_the_model(model):
    assert len(model.golden) >= 100
    np.testing.assert_array_equal(model.raw_scores(model.golden), model.golden.raw_score)


# What is refused


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.999])
def test_one_changed_byte_is_refused_before_parsing(artefact, unread, name, share):
    flipped(artefact / name, int(share * (artefact / name).stat().st_size))

    with pytest.raises(ConfigurationError, match=rf"\['{re.escape(name)}'\] changed") as refused:
        load_model(artefact, KEY)
    assert refused.value.exit_code == 78


def test_any_changed_byte_of_the_manifest_is_refused(artefact, unread):
    original = (artefact / MANIFEST).read_bytes()
    for place in range(len(original)):
        flipped(artefact / MANIFEST, place, (1, 4, 128)[place % 3])
        with pytest.raises(ConfigurationError, match=REFUSED):
            load_model(artefact, KEY)
        (artefact / MANIFEST).write_bytes(original)


@pytest.fixture
def only_hashed(unread, artefact, monkeypatch):
    """Fails the test as well if a child is asked to try the artefact, or any JSON but that of its hashes is read."""
    loads = json.loads

    def manifest_alone(text, **options):
        assert text == (artefact / MANIFEST).read_bytes(), "a refused artefact was parsed"
        return loads(text, **options)

    monkeypatch.setattr(json, "loads", manifest_alone)
    monkeypatch.setattr(subprocess, "run", lambda *given, **options: pytest.fail("a refused artefact was tried"))


def damaged(artefact, *, flips, cuts):
    """What was done to the artefact, while it is so: single bits turned, then files cut; each file in its turn."""
    rng = np.random.default_rng(2)
    contents = {name: (artefact / name).read_bytes() for name in (*FILES, MANIFEST)}
    for number in range(flips + cuts):
        name = list(contents)[number % len(contents)]
        place = int(rng.integers(len(contents[name])))
        if number < flips:
            flipped(artefact / name, place, 1 << int(rng.integers(8)))
        else:
            (artefact / name).write_bytes(contents[name][:place])
        yield f"{name}, {'bit flip' if number < flips else 'cut'} at {place}"
        (artefact / name).write_bytes(contents[name])


def is_refused(artefact, state):
    try:
        load_tried_model(artefact, state)
    except ConfigurationError as error:
        return re.search(REFUSED, str(error)) is not None
    return False


def test_every_turned_bit_and_every_cut_is_refused_before_anything_is_parsed_or_tried(artefact, tmp_path, only_hashed):
    (tmp_path / "signing.key").write_bytes(KEY)

    refused = [(damage, is_refused(artefact, tmp_path)) for damage in damaged(artefact, flips=FLIPS, cuts=CUTS)]

    assert [damage for damage, was_refused in refused if not was_refused] == []
    assert len(refused) == FLIPS + CUTS
    # Whole again it passes the same checks, and would be tried.
    with pytest.raises(pytest.fail.Exception, match="was tried"):
        load_tried_model(artefact, tmp_path)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_refused(artefact, unread, name):
    (artefact / name).unlink()

    with pytest.raises(ConfigurationError, match=r"must hold manifest\.json"):
        load_model(artefact, KEY)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_is_refused(artefact, unread, name):
    (artefact / name).write_bytes((artefact / name).read_bytes()[:-1])

    with pytest.raises(ConfigurationError, match="changed"):
        load_model(artefact, KEY)


def test_a_hash_of_a_file_that_is_not_there_is_refused(artefact, unread):
    resigned(artefact, lambda manifest: manifest["files"].update({"loader.py": "0" * 64}))

    with pytest.raises(ConfigurationError, match=r"'loader\.py'"):
        load_model(artefact, KEY)


def test_a_file_without_a_hash_is_refused(artefact, unread):
    resigned(artefact, lambda manifest: manifest["files"].pop("policy.json"))

    with pytest.raises(ConfigurationError, match=r"'policy\.json'"):
        load_model(artefact, KEY)


def test_a_change_with_its_hash_corrected_is_refused(artefact, model, tmp_path, unread):
    """Whoever can write the folder but has no key cannot lower the base rate unseen."""
    save_model(replace(model, base_rate=0.001), tmp_path / "forged", b"another key")
    (artefact / "policy.json").write_bytes((tmp_path / "forged" / "policy.json").read_bytes())
    forged = json.loads((tmp_path / "forged" / MANIFEST).read_text())
    resigned(artefact, lambda manifest: manifest["files"].update(forged["files"]))

    with pytest.raises(ConfigurationError, match="another signature"):
        load_model(artefact, KEY)


def test_another_company_s_key_is_refused(artefact, unread):
    with pytest.raises(ConfigurationError, match="must be signed with this company's key") as refused:
        load_model(artefact, b"another key")
    assert refused.value.exit_code == 78


def test_hashes_are_checked_even_where_the_key_is_not(artefact, unread):
    flipped(artefact / "model.txt", 1000)

    with pytest.raises(ConfigurationError, match="changed"):
        load_model(artefact, None)


@pytest.mark.parametrize(
    "manifest",
    ["", "[]", "null", "{}", '{"files": null, "hmac": ""}', '{"files": [], "hmac": ""}', '{"files": "x", "hmac": ""}'],
)
def test_a_manifest_of_another_shape_is_refused(artefact, unread, manifest):
    (artefact / MANIFEST).write_text(manifest)

    with pytest.raises(ConfigurationError, match=REFUSED):
        load_model(artefact, KEY)


def test_a_signature_that_is_no_hash_is_refused(artefact, unread):
    resigned(artefact, lambda manifest: manifest.update(hmac="é"))

    with pytest.raises(ConfigurationError, match="another signature"):
        load_model(artefact, KEY)


def test_golden_rows_that_score_otherwise_are_refused(model, tmp_path):
    golden = model.golden.assign(raw_score=np.nextafter(model.golden.raw_score, np.inf))
    save_model(replace(model, golden=golden), tmp_path / "other", KEY)

    with pytest.raises(ConfigurationError, match="must score its golden rows as it did"):
        load_model(tmp_path / "other", KEY)


# The key


def test_the_signing_key_of_the_environment_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("TENURE_SIGNING_KEY", "given")

    assert signing_key(tmp_path / "state") == b"given"
    assert not (tmp_path / "state").exists()


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path, monkeypatch):
    monkeypatch.delenv("TENURE_SIGNING_KEY", raising=False)
    made = signing_key(tmp_path / "state")

    assert len(made) >= 32
    assert signing_key(tmp_path / "state") == made != signing_key(tmp_path / "other")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").iterdir()] == [0o600]


def test_an_empty_key_signs_nothing(tmp_path, monkeypatch):
    """A key file cut short by a crash must not turn into a key that everyone knows."""
    monkeypatch.delenv("TENURE_SIGNING_KEY", raising=False)
    (tmp_path / "signing.key").touch(0o600)

    try:
        key = signing_key(tmp_path)
    except ConfigurationError:
        return
    assert key


# What is inside


def test_the_artefact_holds_the_named_files_and_no_code(artefact):
    contents = {path.name: path.read_bytes() for path in artefact.rglob("*")}

    assert set(contents) == {*FILES, MANIFEST}
    assert contents.pop("golden.parquet").startswith(b"PAR1")
    for name, content in contents.items():
        assert "\x00" not in content.decode()
        assert not name.endswith(".json") or isinstance(json.loads(content), dict)


def test_nothing_in_the_artefact_is_a_pickle(artefact):
    for path in artefact.iterdir():
        content = path.read_bytes()
        assert path.suffix not in (".pkl", ".pickle", ".joblib", ".py")
        assert not any(content.startswith(bytes([0x80, protocol])) for protocol in range(2, 6))
        assert not any(bytes([0x80, protocol, 0x95]) in content for protocol in (4, 5))


def test_no_path_host_run_or_clock_is_inside(artefact, generated):
    """They would give the same model another hash."""
    settings, _ = generated
    strange = [str(settings.path.parent), str(artefact), "/tmp/", f"{datetime.now():%Y-%m-%d}"]
    strange += [name for name in [socket.gethostname()] if len(name) > 6]
    for path in artefact.iterdir():
        content = path.read_bytes()
        assert [name for name in strange if name.encode() in content] == []
        assert re.findall(rb"\b[0-9a-f]{32}\b|\b\d\d:\d\d:\d\d\b", content) == []


@pytest.mark.long("three trainings")
def test_the_same_data_and_seed_give_the_same_artefact_and_another_seed_another(generated, trained, tmp_path):
    settings, tables = generated
    ready = prepare(tables, settings, now=YEAR_END, progress=lambda line: None)
    again = train(tables, settings, ready, progress=lambda line: None)
    reseeded = replace(settings, train=replace(settings.train, seed=8))
    other = finish(again.dataset, again.evaluation, again.audit, reseeded, progress=lambda line: None)
    made = {"first": trained, "again": again, "other": other}
    for name, run in made.items():
        save_model(run.model, tmp_path / name, name.encode())
    hashes = {name: artefact_hash(tmp_path / name) for name in made}

    assert hashes["first"] == hashes["again"] != hashes["other"]


# Scores


def test_the_order_of_columns_and_further_columns_change_no_score(model, rows):
    others = rows[rows.columns[::-1]].assign(zeal=1.0, aardvark="x")

    np.testing.assert_array_equal(model.raw_scores(others), model.raw_scores(rows))
    np.testing.assert_array_equal(
        model.contributions(model.matrix(others))[0], model.contributions(model.matrix(rows))[0]
    )


def test_a_row_scores_alone_as_among_others(model, rows):
    some = rows.sample(40, random_state=1)
    alone = [model.probabilities(some.iloc[[place]])[0] for place in range(len(some))]

    np.testing.assert_array_equal(alone, model.probabilities(some))


def test_a_missing_column_is_never_guessed(model, rows):
    name = model.features[3]

    with pytest.raises(KeyError, match=name):
        model.raw_scores(rows.drop(columns=name))


def test_contributions_add_up_to_the_raw_score(model, rows):
    values, base = model.contributions(model.matrix(rows))

    assert values.shape == (len(rows), len(model.features))
    np.testing.assert_allclose(values.sum(axis=1) + base, model.raw_scores(rows), atol=1e-9)


def test_probabilities_are_never_certain_and_rise_with_the_raw_score(model, rows):
    raw, probability = model.raw_scores(rows), model.probabilities(rows)
    order = np.argsort(raw)
    rises = np.diff(raw[order]) > 1e-9

    assert 0 < probability.min() <= probability.max() < 1
    assert (np.diff(probability[order]) >= 0).all()
    assert (np.diff(probability[order])[rises] > 0).all()


def test_no_raw_score_makes_an_account_certain_to_leave_or_stay(model):
    probability = model.calibrator.probability(np.array([-1e6, -800.0, 800.0, 1e6]))

    assert 0 < probability.min() <= probability.max() < 1


def test_a_model_that_learned_nothing_gives_the_base_rate_to_everyone(model, rows, tmp_path):
    save_model(replace(model, no_signal=True), tmp_path / "blind", KEY)
    blind = load_model(tmp_path / "blind", KEY)

    assert set(blind.probabilities(rows)) == {model.base_rate}
    assert blind.band(model.base_rate) == "medium"
    np.testing.assert_array_equal(blind.raw_scores(rows), model.raw_scores(rows))


@pytest.mark.parametrize("base_rate", [0.1, 0.03, 0.0371])
def test_bands_begin_at_one_two_and_four_times_the_base_rate(model, base_rate):
    graded = replace(model, base_rate=base_rate)
    below = {1: "low", 2: "medium", 4: "high"}
    at = {1: "medium", 2: "high", 4: "critical"}

    assert {times: graded.band(times * base_rate) for times in at} == at
    assert {times: graded.band(np.nextafter(times * base_rate, 0)) for times in below} == below
