"""The frame around every page: templates with their words for numbers, the style, and what a browser may load."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

HERE = Path(__file__).parent
STYLE = (HERE / "static" / "style.css").read_bytes()
STYLE_NAME = f"style.{hashlib.sha256(STYLE).hexdigest()[:12]}.css"
"""Named by what it holds, so that a browser may keep it for good."""
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'"
)


class Frame:
    """Makes pages of the templates."""

    def __init__(self) -> None:
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._templates.filters |= {"percent": percent, "money": money, "days": days, "plainly": plainly}

    def shown(self, name: str, status: int = 200, *, headers: Mapping[str, str] | None = None, **what: Any) -> Response:
        """The page of a template; `what` are its variables."""
        page = self._templates.get_template(name)
        html = page.render(**{"style": STYLE_NAME, "token": None, "page": None, "warnings": [], **what})
        secured = {"content-security-policy": POLICY, "referrer-policy": "same-origin", **(headers or {})}
        return HTMLResponse(html, status, headers=secured)

    def message(self, request: Request, status: int, heading: str, said: str) -> Response:
        """A page that says one thing, to whoever asks."""
        token = request.scope.get("state", {}).get("token")
        return self.shown("message.html", status, token=token, heading=heading, said=said)


async def style(_: Request) -> Response:
    """The style sheet."""
    return Response(STYLE, media_type="text/css", headers={"cache-control": "public, max-age=31536000, immutable"})


def percent(value: float | None) -> str:
    """A share as a person reads it."""
    return "–" if value is None else f"{value:.1%}".replace("%", "\N{NARROW NO-BREAK SPACE}%")


def plainly(warning: str) -> str:
    """A warning as a sentence, without its code."""
    said = warning.partition(":")[2] or warning
    return f"{said[:1].upper()}{said[1:]}."


def money(value: float | None) -> str:
    """Money in whole units."""
    return "–" if value is None else f"{value:,.0f}"


def days(value: int | None) -> str:
    """A number of days."""
    return "–" if value is None else f"{value:,} d"
