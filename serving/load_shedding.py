"""Load shedding: while the line is full, requests for scores are turned away unread.

Taking a request apart costs a good part of what answering it does. Under many times the load that can be answered,
refusals after that would leave no time for answers; so a few bytes decide.
"""

from __future__ import annotations

import os
import re

from serving.reply import problem

_HEAD = re.compile(rb"POST (/v1/score|/v1/score_accounts) HTTP/1\.1\r\n(?:[^\r\n]+\r\n)*?\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,7})[ \t]*(?=\r\n)", re.I)
_UNUSUAL = re.compile(rb"\r\n(?:connection|expect|upgrade|transfer-encoding):", re.I)
_ID = "0" * 32
_STATUS = b"HTTP/1.1 429 Too Many Requests\r\n"


def path_of_whole_score(data: bytes) -> str | None:
    """The path where `data` is one whole ordinary request for scores; None of all else, such as a look at health."""
    head = _HEAD.match(data)
    if head is None or _UNUSUAL.search(data, 0, head.end()):
        return None
    lengths = _LENGTH.findall(data, 0, head.end())
    is_whole = len(lengths) == 1 and head.end() + int(lengths[0]) == len(data)
    return head[1].decode() if is_whole else None


def turned_away(path: str) -> bytes:
    """The whole answer to one who must come back."""
    return _ANSWERS[path].replace(_ID.encode(), os.urandom(16).hex().encode())


def _answer(path: str) -> bytes:
    headers = {"retry-after": "1", "x-request-id": _ID}
    headers |= {"x-content-type-options": "nosniff", "cache-control": "no-store"}
    said = "More requests than can be answered; try again in a second."
    response = problem(429, said, instance=path, request_id=_ID, headers=headers)
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
    return _STATUS + lines + b"\r\n" + bytes(response.body)


_ANSWERS = {path: _answer(path) for path in ("/v1/score", "/v1/score_accounts")}
