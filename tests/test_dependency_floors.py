"""No dependency in the lock is older than the faults that were found in it allow (G6)."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.version import Version

HERE = Path(__file__).parent
FLOORS = tomllib.loads((HERE / "dependency_floors.toml").read_text())["floors"]
LOCK = (HERE.parent / "requirements.lock").read_text()


def too_old(lock):
    """Name, version and why, of every package below its floor."""
    locked = dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", lock, re.MULTILINE))
    return [
        f"{name} {locked[name]} must be at least {floor}: {why}"
        for name, (floor, why) in FLOORS.items()
        if name in locked and Version(locked[name]) < Version(floor)
    ]


def test_no_locked_dependency_is_below_its_floor():
    assert too_old(LOCK) == []


def test_every_floor_is_of_a_dependency_we_have():
    assert all(re.search(rf"^{re.escape(name)}==", LOCK, re.MULTILINE) for name in FLOORS)


@pytest.mark.parametrize(("name", "old"), [("bentoml", "1.4.3"), ("mlflow", "3.9.0"), ("lightgbm", "4.5.0")])
def test_an_old_pin_is_found_and_named(name, old):
    planted = re.sub(rf"^{name}==[^ ]+", f"{name}=={old}", LOCK, flags=re.MULTILINE)

    (found,) = too_old(planted)
    assert found.startswith(f"{name} {old} must be at least {FLOORS[name][0]}")
