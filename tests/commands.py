"""tenure's commands for the tests, run in their own process on the company of a `tenure.toml`."""

from __future__ import annotations

from click.testing import CliRunner

import tenure


def run(company, *arguments):
    """What became of a command."""
    return CliRunner().invoke(tenure.main, [*arguments, f"--config={company}"])


def done(company, *arguments):
    """What a command said that must end well."""
    found = run(company, *arguments)
    assert found.exit_code == 0, (found.stderr, found.exception)
    return found.stdout
