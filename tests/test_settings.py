"""What `tenure.toml` may say, what stands where it is silent, and how it is refused."""

from __future__ import annotations

import pytest

from features.errors import ConfigurationError
from features.model_settings import PolicySettings, TrainSettings
from features.settings import LabelSettings, QuarantineSettings, TableSource, find_config, read_settings


@pytest.fixture
def read(tmp_path):
    """Settings from TOML text and an environment of their own."""

    def read(text, **environ):
        path = tmp_path / "tenure.toml"
        path.write_text(text, encoding="utf-8")
        return read_settings(path, environ)

    return read


def test_what_is_not_said_has_its_default(read, tmp_path):
    settings = read("")

    assert settings.label == LabelSettings(horizon_days=90, grace_days=30, lead_days=30, anchor="decision")
    assert settings.quarantine == QuarantineSettings(limit=0.05)
    assert settings.policy == PolicySettings(capacity=0.10, hours_per_contact=2.5, stale_days=3)
    assert settings.train == TrainSettings(seed=7, folds=6, min_lost=20, draws=2000)
    assert settings.tables == settings.sources == {}
    assert settings.state_dir == tmp_path / ".tenure"


def test_what_is_said_replaces_its_default_alone(read):
    label = read("[label]\nhorizon_days = 60\nanchor = 'end'").label

    assert label == LabelSettings(horizon_days=60, anchor="end")


def test_a_table_is_read_in_utc_as_events_under_its_own_names(read):
    source = read("[tables.usage]\npath = 'usage.csv'").tables["usage"]

    assert source == TableSource(path="usage.csv", timezone="UTC", period=None, columns={}, values={}, limit=None)


def test_a_source_that_only_queries_read_is_no_table(read):
    settings = read("[sources.crm]\npath = 'crm.csv'")

    assert settings.sources["crm"].path == "crm.csv"
    assert settings.tables == {}


def test_paths_are_seen_from_the_folder_of_the_file(read, tmp_path):
    settings = read("[state]\ndir = 'var/state'")

    assert settings.resolve("data/usage.csv") == tmp_path / "data" / "usage.csv"
    assert settings.resolve("/elsewhere/usage.csv").as_posix() == "/elsewhere/usage.csv"
    assert settings.state_dir == tmp_path / "var" / "state"


def test_a_variable_is_replaced_in_every_text_value(read):
    text = "[tables.usage]\npath = '${DIR}/${NAME}.csv'\ncolumns = { event_at = '${WHEN}' }\n[state]\ndir = '${DIR}/s'"
    settings = read(text, DIR="data", NAME="usage", WHEN="at")

    assert settings.tables["usage"].path == "data/usage.csv"
    assert settings.tables["usage"].columns == {"event_at": "at"}
    assert settings.state_dir.parts[-2:] == ("data", "s")


@pytest.mark.parametrize(
    ("environ", "expected"), [({}, "data/usage.csv"), ({"DIR": "elsewhere"}, "elsewhere/usage.csv")]
)
def test_the_default_of_a_variable_serves_where_it_is_not_set(read, environ, expected):
    settings = read("[tables.usage]\npath = '${DIR:-data}/usage.csv'", **environ)

    assert settings.tables["usage"].path == expected


def test_the_value_of_a_variable_is_not_expanded_again(read):
    settings = read("[tables.usage]\npath = '${PATTERN}'", PATTERN="${OTHER}")

    assert settings.tables["usage"].path == "${OTHER}"


def test_a_variable_is_read_from_the_process_where_no_environment_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("TENURE_TEST_DIR", "data")
    path = tmp_path / "tenure.toml"
    path.write_text("[tables.usage]\npath = '${TENURE_TEST_DIR}/usage.csv'", encoding="utf-8")

    assert read_settings(path).tables["usage"].path == "data/usage.csv"


def test_a_variable_that_is_not_set_is_named_with_the_file_that_uses_it(read):
    with pytest.raises(ConfigurationError, match=r"variable DIR must be set, tenure\.toml uses it.*Export it"):
        read("[tables.usage]\npath = '${DIR}/usage.csv'")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[lable]\nhorizon_days = 60", r"tenure\.toml must hold only .*found 'lable'\. Did you mean 'label'\?"),
        ("[label]\nhorizon_day = 60", r"\[label\] must hold only .*found 'horizon_day'\. Did you mean 'horizon_days'"),
        ("[tables.usage]\nptah = 'u.csv'", r"\[tables\.usage\] must hold only .*'ptah'\. Did you mean 'path'\?"),
        ("[sources.crm]\nqeury = 'select 1'", r"\[sources\.crm\] must hold only .*Did you mean 'query'\?"),
        ("[quarantine]\nlimits = 0.1", r"\[quarantine\] .*Did you mean 'limit'\?"),
        ("[policy]\ncapacty = 0.1", r"\[policy\] .*Did you mean 'capacity'\?"),
        ("[train]\nfold = 3", r"\[train\] .*Did you mean 'folds'\?"),
        ("[state]\ndirs = 'x'", r"\[state\] must hold only \['dir'\]; found 'dirs'\. Did you mean 'dir'\?"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(read, text, said):
    with pytest.raises(ConfigurationError, match=said):
        read(text)


def test_an_unknown_name_that_resembles_none_is_refused_without_a_guess(read):
    with pytest.raises(ConfigurationError, match=r"found 'zzz'\.$"):
        read("zzz = 1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[label]\nhorizon_days = '90'", r"\[label\] horizon_days must be of type int; found '90'"),
        ("[label]\nhorizon_days = 90.5", r"\[label\] horizon_days must be of type int; found 90\.5"),
        ("[label]\nhorizon_days = true", r"\[label\] horizon_days must be of type int; found True"),
        ("[quarantine]\nlimit = 'all'", r"\[quarantine\] limit must be of type float; found 'all'"),
        ("[tables.usage]\npath = 3", r"\[tables\.usage\] path must be of type str; found 3"),
        ("[tables]\nusage = 'usage.csv'", r"\[tables\.usage\] must be a table of settings; found 'usage\.csv'"),
        ("label = 90", r"\[label\] must be a table of settings; found 90"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(read, text, said):
    with pytest.raises(ConfigurationError, match=said):
        read(text)


def test_a_share_may_be_written_as_a_whole_number(read):
    assert read("[quarantine]\nlimit = 0\n[policy]\ncapacity = 1").quarantine.limit == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[label]\nhorizon_days = 0\nlead_days = 0", r"horizon_days must be at least 1 day; found 0"),
        ("[label]\ngrace_days = -1", r"grace_days must be 0 or more days; found -1"),
        (
            "[label]\nlead_days = 90",
            r"lead_days \(by default 30\) must be 0 or more and below horizon_days = 90; found 90",
        ),
        ("[label]\nanchor = 'begin'", r"anchor must be one of \['decision', 'end'\]; found 'begin'"),
        ("[quarantine]\nlimit = 5", r"limit must be a share between 0 and 1; found 5"),
        ("[quarantine]\nlimit = nan", r"limit must be a share between 0 and 1; found nan"),
        ("[policy]\ncapacity = 0", r"capacity must be a share above 0, at most 1; found 0"),
        ("[train]\nfolds = 0", r"folds must be at least 1; found 0"),
        ("[train]\nmin_lost = 19", r"min_lost must be at least 20; found 19"),
        ("[tables.usage]\npath = 'u.csv'\nperiod = 'week'", r"period must be one of \['day', 'month'\]; found 'week'"),
        ("[tables.usage]\ntimezone = 'UTC'", r"\[tables\.usage\] must be given a path, a url or a query"),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_name(read, text, said):
    with pytest.raises(ConfigurationError, match=said + r".*Correct it in tenure\.toml\."):
        read(text)


def test_text_that_is_not_toml_is_refused_with_its_line(read):
    with pytest.raises(ConfigurationError, match=r"tenure\.toml must be valid TOML; .*line 2.*Correct that line"):
        read("[label]\nhorizon_days 90")


def test_a_file_that_is_not_utf_8_is_refused(tmp_path):
    path = tmp_path / "tenure.toml"
    path.write_bytes("# caf\u00e9".encode("latin-1"))

    with pytest.raises(ConfigurationError, match="must be valid TOML"):
        read_settings(path, {})


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"Settings must be at .*tenure\.toml; found nothing there"):
        read_settings(tmp_path / "tenure.toml", {})


def test_the_nearest_settings_upwards_are_found(tmp_path):
    inner = tmp_path / "company" / "data" / "raw"
    inner.mkdir(parents=True)
    (tmp_path / "tenure.toml").touch()
    (tmp_path / "company" / "tenure.toml").touch()

    assert find_config(inner) == tmp_path / "company" / "tenure.toml"
    assert find_config(tmp_path / "company") == tmp_path / "company" / "tenure.toml"
    assert find_config(tmp_path) == tmp_path / "tenure.toml"


def test_a_folder_called_like_the_settings_is_passed_over(tmp_path):
    (tmp_path / "tenure.toml").touch()
    (tmp_path / "inner" / "tenure.toml").mkdir(parents=True)

    assert find_config(tmp_path / "inner") == tmp_path / "tenure.toml"


def test_no_settings_upwards_are_refused_with_a_way_on(tmp_path):
    with pytest.raises(ConfigurationError, match=r"folder above it; found none\. .*tenure demo.*--config"):
        find_config(tmp_path)


def test_refused_settings_exit_with_78(read):
    with pytest.raises(ConfigurationError, match="found 'zzz'") as refusal:
        read("zzz = 1")

    assert refusal.value.exit_code == 78
