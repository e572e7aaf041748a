"""All that the service answers, by which methods, and to whom."""

from __future__ import annotations

from serving import rest
from serving.console import pages
from serving.contract import OPENAPI_PATH

_READ = frozenset({"GET", "HEAD"})
PATHS = {
    "/v1/score": frozenset({"POST"}),
    "/v1/score_accounts": frozenset({"POST"}),
    **dict.fromkeys(rest.PATHS, _READ),
    "/metrics": _READ,
    OPENAPI_PATH: _READ,
    **pages.PATHS,
    **pages.OPEN_PATHS,
}
OPEN_PATHS = frozenset({"/livez", "/readyz", *pages.OPEN_PATHS})
ROLES = {
    "/v1/score": frozenset({"csm", "manager", "admin", "ds"}),
    "/v1/score_accounts": frozenset({"csm", "manager", "admin", "ds"}),
    "/v1/model": frozenset({"manager", "admin", "ds"}),
    "/metrics": frozenset({"viewer", "admin", "ds"}),
}
"""Who may ask, where not everybody may."""
