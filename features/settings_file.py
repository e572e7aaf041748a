"""A `tenure.toml` as plain values: read, filled from the environment, and checked key by key.

`${NAME}`, or `${NAME:-default}`, is replaced from the environment in every text value.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from features.errors import ConfigurationError

CONFIG_NAME = "tenure.toml"

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(:-(?P<default>[^}]*))?\}")


def read_document(path: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """All that the file says, with every `${NAME}` replaced.

    Raises
    ------
    ConfigurationError
        The file cannot be read, is no TOML, or uses a variable that is not set.
    """
    return cast("dict[str, Any]", _expanded(_parsed(path), environ, path))


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"Settings must be at {path}; found nothing there. Pass --config FILE.") from error
    except OSError as error:
        raise ConfigurationError(
            f"Settings must be a readable file; {path}: {error.strerror}. Pass --config FILE."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} must be valid TOML; {error}. Correct that line.") from error


def _expanded(value: Any, environ: Mapping[str, str], path: Path) -> Any:
    if isinstance(value, dict):
        return {key: _expanded(item, environ, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_expanded(item, environ, path) for item in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _variable(match, environ, path), value)
    return value


def _variable(match: re.Match[str], environ: Mapping[str, str], path: Path) -> str:
    name, default = match["name"], match["default"]
    if environ.get(name) or (name in environ and default is None):
        return environ[name]
    if default is not None:
        return default
    raise ConfigurationError(
        f"Environment variable {name} must be set, {path.name} uses it; found none. Export it, then run again."
    )


def section(kind: type[Any], document: Mapping[str, Any], name: str, *, title: str | None = None) -> Any:
    """The section `name` of `document` as a `kind`, whose fields are its keys; `title` is how a fault names it."""
    given = document.get(name, {})
    title = title or f"[{name}]"
    require(isinstance(given, dict), title, given, "a table of settings")
    known = {item.name: item for item in fields(kind)}
    refuse_unknown(given, known, title)
    for key, value in given.items():
        shown = "a value of another type" if known[key].repr is False else value
        _require_kind(f"{title} {key}", value, str(known[key].type), shown=shown)
    return kind(**given)


def _require_kind(subject: str, value: object, annotation: str, *, shown: object) -> None:
    expected = {
        "int": (int,),
        "float": (int, float),
        "float | None": (int, float),
        "str": (str,),
        "str | None": (str,),
    }.get(annotation)
    if annotation.startswith("Mapping"):
        inner = dict if annotation.endswith("Any]]") else str
        right = isinstance(value, dict) and all(isinstance(item, inner) for item in value.values())
        require(right, subject, shown, "a table of names" if inner is str else "a table of tables")
        return
    wrong = expected is not None and (not isinstance(value, expected) or isinstance(value, bool))
    require(not wrong, subject, shown, f"of type {annotation.split(' ')[0]}")


def refuse_unknown(given: Iterable[str], known: Iterable[str], title: str) -> None:
    """Stop at a key that nothing reads, with the one that was probably meant."""
    known = sorted(known)
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise ConfigurationError(f"{title} must hold only {known}; found '{key}'.{hint}")


def require(holds: bool, subject: str, found: object, expected: str) -> None:
    """Stop where a setting is not as it must be: subject must be expected; found this."""
    if not holds:
        raise ConfigurationError(f"{subject} must be {expected}; found {found!r}. Correct it in {CONFIG_NAME}.")
