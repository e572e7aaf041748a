"""What `tenure.toml` says about the service: where its ledger is, and how it behaves."""

from __future__ import annotations

from dataclasses import dataclass, field

from features.settings_file import require


@dataclass(frozen=True, kw_only=True)
class LedgerSettings:
    """Where runs, lists, tokens and the audit are kept."""

    url: str | None = field(default=None, repr=False)
    """`postgresql://user:password@host/database`; by default `ledger.db`, an SQLite file in the state directory."""

    def __post_init__(self) -> None:
        scheme = None if self.url is None else self.url.partition("://")[0]
        known = (None, "postgresql", "postgres", "postgresql+psycopg")
        require(scheme in known, "[ledger] url", f"{scheme}…"[:16], "postgresql://…, or left out")


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """How the service behaves."""

    follow_s: float = 5.0
    """Seconds between two looks at the champion's alias."""
    requests_per_s: float = 200.0
    """Of each token, in the long run."""
    burst: int = 400
    """Of each token, at once."""
    refuse_stale: bool = False
    """Whether accounts are refused, rather than scored with a warning, where their features are too old."""

    def __post_init__(self) -> None:
        require(self.follow_s > 0, "[serve] follow_s", self.follow_s, "above 0 seconds")
        require(self.requests_per_s > 0, "[serve] requests_per_s", self.requests_per_s, "above 0")
        require(self.burst >= 1, "[serve] burst", self.burst, "at least 1")
