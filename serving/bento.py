"""`tenure bento`: the service with its champion in one bento, which `bentoml serve` runs without the registry.

Inside lie our packages, a `company/` with `tenure.toml`, the champion as it was verified, and a copy of the ledger with
its tokens and lists. The key that signs models stays out: who runs the bento sets TENURE_SIGNING_KEY.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

from bentoml import bentos

from features.errors import CannotWrite
from features.settings import Settings
from serving.champion import POINTER, load_champion
from serving.ledger import FILE, open_ledger
from serving.service import BUNDLED

SERVICE = "serving.service:TenureService"
_ROOT = Path(__file__).parent.parent
_OURS = ("features", "training", "serving")


@dataclass(frozen=True, kw_only=True)
class Bento:
    """What was built."""

    tag: str
    model_version: str
    path: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))

    def text(self) -> str:
        """How to run it."""
        return (
            f"{self.tag} holds the champion, version {self.model_version}, in {self.path}.\n"
            f"Run it with the key of this company: TENURE_SIGNING_KEY=… bentoml serve {self.tag}"
        )


def build(settings: Settings) -> Bento:
    """Build the bento into BentoML's own store.

    Raises
    ------
    ConfigurationError
        There is no champion, or it is not as it was signed.
    CannotWrite
        There is no room to put it together, or in the store.
    """
    champion = load_champion(settings)
    try:
        with tempfile.TemporaryDirectory(prefix="tenure-bento-") as place:
            stage(settings, champion.artefact, Path(place))
            made = bentos.build(
                SERVICE, name="tenure", build_ctx=place, include=["*"],
                labels={"model_version": champion.version, "artefact": champion.artefact[:16]},
                python={"packages": _requirements(), "lock_packages": False},
            )  # fmt: skip
    except OSError as error:
        raise CannotWrite(
            f"A bento must have room in BentoML's store and in {tempfile.gettempdir()}; {error.strerror or error}. "
            "Free space, or set BENTOML_HOME."
        ) from error
    return Bento(tag=str(made.tag), model_version=champion.version, path=str(made.path))


def stage(settings: Settings, artefact: str, place: Path) -> None:
    """Put all that the bento holds into an empty folder."""
    for name in _OURS:
        shutil.copytree(_ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__", "*.ipynb"))
    shutil.copy(_ROOT / "tenure.py", place)
    company = place / BUNDLED.parent.name
    state = company / ".tenure"
    (state / "models").mkdir(parents=True)
    # What it answers from is inside; a state folder elsewhere, or one named by the environment, is not there.
    kept = ("[ledger]", "[serve]", "[policy]", "[label]")
    (company / BUNDLED.name).write_text(_sections(settings.path.read_text(encoding="utf-8"), kept), encoding="utf-8")
    shutil.copytree(settings.state_dir / "models" / artefact, state / "models" / artefact)
    shutil.copy(settings.state_dir / POINTER, state)
    if settings.ledger.url is None:
        open_ledger(settings).backup(state / FILE)
    days = settings.state_dir / "lists"
    if days.is_dir():
        latest = max(days.iterdir(), default=None)
        if latest is not None:
            shutil.copytree(latest, state / "lists" / latest.name)


def _sections(text: str, kept: tuple[str, ...]) -> str:
    """The sections of a settings file that say how to serve; where tables are read from stays out."""
    lines, is_kept = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("["):
            is_kept = line.strip().split("#")[0].strip() in kept
        if is_kept:
            lines.append(line)
    return "\n".join(lines) + "\n"


def _requirements() -> list[str]:
    """What our own distribution requires, without what only its developers do."""
    named = [requirement for requirement in requires("tenure") or [] if "extra ==" not in requirement]
    return [f"bentoml=={version('bentoml')}" if item.startswith("bentoml") else item for item in named]
