"""An open-loop client of asyncio streams: requests begin when they are due, whether or not others were answered."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

from features.settings import read_settings
from tests.servers import descendants

PATIENCE_S = 30
UNLIMITED = "\n[serve]\nfollow_s = 0.5\nrequests_per_s = 100000\nburst = 100000\n"


def unlimited(config):
    """The company of a tenure.toml, whose callers may ask as often as they like."""
    config.write_text(config.read_text() + UNLIMITED)
    return read_settings(config)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of one request."""

    status: int | str
    """The name of the error where no answer came."""
    seconds: float
    """From the moment the request began to the end of its answer."""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def request(method, path, secret=None, body=None, **headers):
    """The bytes of one request."""
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "host: tenure"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if secret is not None:
        lines.append(f"authorization: Bearer {secret}")
    if body is not None:
        lines += [f"content-length: {len(content)}", *([] if "content_type" in headers else [JSON])]
    return "\r\n".join([*lines, "", ""]).encode() + content


JSON = "content-type: application/json"


class Client:
    """Connections to one port, kept and used again; the latest first, so that the others age as they would."""

    def __init__(self, port):
        self.port, self.idle = port, deque()

    async def ask(self, content, *, retries=0):
        """Send one request and wait for its answer."""
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            async with asyncio.timeout(PATIENCE_S):
                status, headers, body = await self._exchanged(content)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            if retries:
                return await self.ask(content, retries=retries - 1)
            return Answer(status=type(error).__name__, seconds=clock() - begun)
        return Answer(status=status, seconds=clock() - begun, headers=headers, body=body)

    async def close(self):
        """Close all that is kept."""
        while self.idle:
            self.idle.pop()[1].close()
        await asyncio.sleep(0)

    async def _exchanged(self, content):
        reader, writer = await self._connection()
        is_kept = False
        try:
            writer.write(content)
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
            }
            has_body = not content.startswith(b"HEAD ") and first.split()[1] not in ("204", "304")
            body = await _body(reader, headers) if has_body else b""
            is_kept = headers.get("connection") != "close"
            return int(first.split()[1]), headers, body
        finally:
            if is_kept:
                self.idle.append((reader, writer))
            else:
                writer.close()

    async def _connection(self):
        while self.idle:
            reader, writer = self.idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self.port)


def _header(line):
    name, _, value = line.partition(":")
    return name.lower(), value.strip()


async def _body(reader, headers):
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    found = b""
    while size := int(await reader.readline(), 16):
        found += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return found


async def open_loop(client, contents, *, rate, seconds, retries=0):
    """All answers to `rate` requests a second, taken in turn from `contents`."""
    clock = asyncio.get_running_loop().time
    start, asked = clock(), []
    for number in range(int(rate * seconds)):
        if (wait := start + number / rate - clock()) > 0:
            await asyncio.sleep(wait)
        content = contents[number % len(contents)]
        asked.append(asyncio.create_task(client.ask(content, retries=retries)))
    return await asyncio.gather(*asked)


async def closed_loop(client, contents, *, callers, seconds):
    """All answers to callers who each ask again once they were answered."""
    clock, answers = asyncio.get_running_loop().time, []
    end = clock() + seconds

    async def call(number):
        while clock() < end:
            answers.append(await client.ask(contents[number % len(contents)]))
            number += callers

    await asyncio.gather(*(call(number) for number in range(callers)))
    return answers


def statuses(answers):
    """How often each status came."""
    return Counter(answer.status for answer in answers)


def p99(answers):
    """Seconds within which 99 % were answered."""
    ordered = sorted(answer.seconds for answer in answers)
    return ordered[int(0.99 * (len(ordered) - 1))]


@dataclass(frozen=True, kw_only=True)
class Use:
    """What the processes of one server hold of the machine."""

    rss_mib: float
    fds: int
    threads: int


def use(pid):
    """What a process and all below it hold now."""
    processes = [pid, *descendants(pid)]
    facts = [
        dict(line.split(":", 1) for line in Path(f"/proc/{each}/status").read_text().splitlines()) for each in processes
    ]
    return Use(
        rss_mib=sum(int(fact["VmRSS"].split()[0]) for fact in facts) / 1024,
        fds=sum(len(list(Path(f"/proc/{each}/fd").iterdir())) for each in processes),
        threads=sum(int(fact["Threads"]) for fact in facts),
    )
