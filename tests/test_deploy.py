"""The samples for cron, systemd and Airflow name commands that exist, and treat every exit code as it means."""

from __future__ import annotations

import configparser
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

import tenure
from features import errors

SERVING = Path(tenure.__file__).parent / "serving"
DEPLOY = SERVING / "deploy"
UNITS = sorted(DEPLOY.glob("tenure-*.service"))
PASSING = {errors.DependencyDown.exit_code, errors.AlreadyRunning.exit_code}
"""What mends itself when tenure is run again later."""


def require_command(words):
    """Fail unless `tenure` takes these words: the command exists, and so do its options."""
    context = click.Context(tenure.main)
    name, command, rest = tenure.main.resolve_command(context, list(words))
    command.make_context(name, rest, parent=context).close()
    return name


def unit(path):
    found = configparser.ConfigParser(strict=False, interpolation=None)
    found.optionxform = str
    found.read(path)
    return found


def cron_lines():
    text = (SERVING / "README.md").read_text()
    return re.findall(r"^(?:[\d*/,-]+ ){5}(.+)$", text, re.MULTILINE)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_systemd_unit_starts_a_command_that_exists(path):
    program, *words = shlex.split(unit(path)["Service"]["ExecStart"])

    assert Path(program).name == "tenure"
    assert require_command(words) == words[0]


def test_the_nightly_unit_starts_again_after_what_passes_and_never_after_the_rest():
    service = unit(DEPLOY / "tenure-run.service")["Service"]
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.TenureError)]

    assert service["Restart"] == "on-failure"
    never = {int(code) for code in service["RestartPreventExitStatus"].split()}
    assert never == {kind.exit_code for kind in kinds} - PASSING


def test_systemd_takes_the_units(tmp_path):
    if shutil.which("systemd-analyze") is None:
        assert os.environ.get("CI") != "true", "systemd-analyze must be installed where CI=true; found none."
        pytest.skip("systemd-analyze is not installed")
    program = tmp_path / "tenure"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for path in DEPLOY.glob("tenure-*"):
        text = path.read_text().replace("/srv/tenure/.venv/bin/tenure", str(program))
        text = text.replace("User=tenure", "User=root")  # Who need not be made first.
        (tmp_path / path.name).write_text(text)
    units = [str(path) for path in tmp_path.glob("tenure-*")]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_line_of_cron_runs_commands_that_exist():
    assert cron_lines()
    for line in cron_lines():
        for command in re.split(r"&&|\|\||;|>", line):
            program, *words = shlex.split(command)
            if Path(program).name == "tenure":
                require_command(words)


def test_the_airflow_dag_runs_a_command_that_exists_for_the_end_of_its_interval(monkeypatch):
    """Airflow itself is too large to be installed for this; what is tested is what is handed to it."""
    tasks, dags = [], []

    class Dag:
        def __init__(self, name, **given):
            dags.append((name, given))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    def operator(**given):
        tasks.append(given)

    parts = {"airflow.sdk": {"DAG": Dag}, "airflow.providers.standard.operators.bash": {"BashOperator": operator}}
    for name, content in parts.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    runpy.run_path(str(DEPLOY / "airflow_dag.py"))
    ((_, schedule),), (task,) = dags, tasks
    command = task["bash_command"].replace("{{ data_interval_end | ds }}", "2025-05-01")

    assert schedule["max_active_runs"] == 1
    assert schedule["catchup"] is False
    assert "{{" not in command
    assert require_command(shlex.split(command)[1:]) == "run"
