"""What the texts promise exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest
import yaml

import tenure
from features.model_settings import TrainSettings

ROOT = Path(__file__).parent.parent
TEXTS = ["README.md", "training/README.md", "serving/README.md", "features/README.md"]


def commands(group: click.Group, prefix: str = "") -> dict[str, click.Command]:
    """Every command of the command line by its whole name."""
    found = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= commands(command, f"{prefix}{name} ")
        else:
            found[prefix + name] = command
    return found


@pytest.mark.parametrize("text", TEXTS)
def test_every_command_in_the_texts_exists_with_its_options(text):
    known = commands(tenure.main)
    blocks = "".join(re.findall(r"```(.*?)```", (ROOT / text).read_text(), re.DOTALL))
    lines = re.findall(r"^(tenure [a-z].*)$", blocks, re.M)
    for line in lines:
        words = line.split("#")[0].split()[1:]
        name = next(name for name in (" ".join(words[:2]), words[0]) if name in known)
        options = {option for parameter in known[name].params for option in parameter.opts}

        assert {word for word in words if word.startswith("--")} <= options, line


@pytest.mark.parametrize("text", [*TEXTS, "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_every_link_and_path_in_the_texts_leads_somewhere(text):
    content = (ROOT / text).read_text()
    links = [target for target in re.findall(r"\]\(([^)#]+)\)", content) if "://" not in target]
    paths = [path for path in re.findall(r"`((?:features|training|serving|tests)/[\w./]+)`", content) if "." in path]

    missing = [link for link in links if not ((ROOT / text).parent / link).exists()]
    missing += [path for path in paths if not (ROOT / path).exists()]

    assert missing == []


def test_the_readme_is_short_enough_to_be_read():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_mlproject_calls_commands_with_their_own_options_and_defaults():
    project = yaml.safe_load((ROOT / "MLproject").read_text())
    known = commands(tenure.main)
    defaults = TrainSettings()
    for name, entry in project["entry_points"].items():
        words = entry["command"].split()[1:]
        command = known.get(" ".join(words[:2])) or known[words[0]]
        options = {option for parameter in command.params for option in parameter.opts}

        assert {word for word in words if word.startswith("--")} <= options, name
    for option in ("seed", "folds", "draws"):
        assert project["entry_points"]["train"]["parameters"][option]["default"] == str(getattr(defaults, option))


def test_the_lock_holds_every_dependency_with_its_hash():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    locked = (ROOT / "requirements.lock").read_text()
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = [re.match(r"[A-Za-z0-9_.-]+", item)[0].lower() for item in wanted]

    assert [name for name in names if f"\n{name}==" not in "\n" + locked] == []
    assert "--hash=sha256:" in locked
    assert "://" not in locked


def test_the_targets_of_the_makefile_say_what_they_do():
    makefile = (ROOT / "Makefile").read_text()

    for target in ("help", "setup", "demo", "test", "test-full", "check", "fix"):
        assert re.search(rf"^{target}:.*## \w", makefile, re.M), target


def test_no_text_for_scheduler_and_code_disagree_on_exit_codes():
    from features import errors

    said = set(
        map(int, re.findall(r"\b(2|65|69|73|75|78)\b (?:the|a|cannot|already|conf)", (ROOT / "README.md").read_text()))
    )

    assert said == {error.exit_code for error in errors.TenureError.__subclasses__()}
