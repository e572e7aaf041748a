"""A list cut while it is read is the list read whole and then cut, whatever its texts look like."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import ConfigurationError, Misuse
from features.settings import Settings
from serving.listing import chosen
from serving.publication import list_bytes, point_to, write_run

DAY = "2025-05-01"
TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(['"is_listed": true', '\n"rows": [\n', "],\n", 'x", "csm_id": "c1', "c1", "ü\u2028", "\\"]),
)
ROWS = st.lists(st.tuples(TEXTS, st.one_of(st.none(), TEXTS)), max_size=12)


def published_list(folder: Path, rows: list[tuple[str, str | None]], listed: int) -> Settings:
    head = {"as_of": DAY, "heading": '"rows": [', "base_rate": 0.1, "horizon_days": 90, "model_version": "1"}
    ranked = [
        {"account_id": f"a{place}", "name": name, "csm_id": csm, "is_listed": place < listed}
        for place, (name, csm) in enumerate(rows)
    ]
    whole = {**head, "counts": {"listed": listed}, "rows": ranked, "leaving": [], "excluded": [], "left": []}
    place = folder / "lists" / DAY
    point_to(place, write_run(place, {"list.json": list_bytes(whole)}))
    return Settings(path=folder / "tenure.toml", tables={}, state_dir=folder, compiled_dir=folder)


@given(rows=ROWS, listed=st.integers(0, 12), top=st.one_of(st.none(), st.integers(1, 12)), place=st.integers(0, 12))
def test_a_list_is_cut_alike_while_it_is_read(rows, listed, top, place):
    owners = sorted({csm for _, csm in rows if csm is not None})
    csm = owners[place] if place < len(owners) else None

    with TemporaryDirectory() as folder:
        found = chosen(published_list(Path(folder), rows, listed), as_of=None, csm=csm, top=top)

    mine = [row for row in enumerate(rows) if csm is None or row[1][1] == csm]
    kept = [place for place, _ in mine if place < listed] if top is None else [place for place, _ in mine][:top]
    assert [row["account_id"] for row in found["rows"]] == [f"a{place}" for place in kept]
    assert [(row["name"], row["csm_id"]) for row in found["rows"]] == [rows[place] for place in kept]
    assert found["heading"] == '"rows": ['


def test_a_list_that_an_older_version_wrote_is_read_whole(tmp_path):
    settings = published_list(tmp_path, [("first", "c1"), ("second", "c2")], listed=1)
    place = tmp_path / "lists" / DAY
    whole = json.loads(next(place.glob("*/list.json")).read_text())
    point_to(place, write_run(place, {"list.json": json.dumps(whole, indent=1).encode()}))

    assert [row["name"] for row in chosen(settings, as_of=None, csm=None, top=None)["rows"]] == ["first"]
    assert [row["name"] for row in chosen(settings, as_of=None, csm="c2", top=5)["rows"]] == ["second"]


def test_an_owner_of_accounts_beyond_the_capacity_has_an_empty_list(tmp_path):
    settings = published_list(tmp_path, [("first", "c1"), ("second", "c2")], listed=1)

    assert chosen(settings, as_of=None, csm="c2", top=None)["rows"] == []


def test_who_owns_nothing_is_told_who_does(tmp_path):
    settings = published_list(tmp_path, [("first", "c1"), ("second", None)], listed=1)

    with pytest.raises(Misuse, match=r"found 'c3'\. Owners are c1"):
        chosen(settings, as_of=None, csm="c3", top=None)


def test_a_list_that_was_changed_is_not_read_in_part(tmp_path):
    settings = published_list(tmp_path, [("first", "c1")], listed=1)
    file = next(tmp_path.glob("lists/*/*/list.json"))
    file.write_text(json.dumps(json.loads(file.read_text())))

    with pytest.raises(ConfigurationError, match="must be as it was published"):
        chosen(settings, as_of=None, csm=None, top=1)
