"""The page of the catalogue says what the declarations say."""

from __future__ import annotations

from pathlib import Path

import features
from features.catalogue import FEATURE_NAMES
from features.catalogue_page import catalogue_page

PAGE = Path(features.__file__).parent / "CATALOGUE.md"


def test_the_page_is_current():
    assert PAGE.read_text() == catalogue_page() + "\n", "run `make catalogue` and commit what it writes"


def test_every_feature_stands_on_it_once():
    headings = [line[4:] for line in PAGE.read_text().splitlines() if line.startswith("### ")]

    assert headings == list(FEATURE_NAMES)
