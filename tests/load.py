"""An open-loop client of asyncio: requests begin when they are due, whether or not others were answered."""

from __future__ import annotations

import asyncio
import json
import select
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

from features.settings import read_settings
from tests.servers import descendants

PATIENCE_S = 30
RETRY_S = 0.1
"""Before a request is sent once more, as the retries of HTTP libraries wait too."""
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


class Connection(asyncio.Protocol):
    """One connection, by which requests go one after the other; lean, so that many can be asked by one thread."""

    def connection_made(self, transport):
        self.transport, self.received, self.waiting, self.has_body = transport, b"", None, True

    def ask(self, content):
        """The future (status, headers, body) of the answer."""
        self.has_body = not content.startswith(b"HEAD ")
        self.waiting = asyncio.get_running_loop().create_future()
        self.transport.write(content)
        return self.waiting

    def data_received(self, data):
        self.received += data
        answer = parsed(self.received, has_body=self.has_body)
        if answer is not None and self.waiting is not None and not self.waiting.done():
            self.received = b""
            self.waiting.set_result(answer)

    def is_dropped(self):
        """Whether the other side has closed it, though the loop may not have seen that; HTTP libraries look, too."""
        if self.transport.is_closing():
            return True
        looking = select.poll()
        looking.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(looking.poll(0))

    def connection_lost(self, error):
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_exception(error or ConnectionResetError("closed before the answer was complete"))


def parsed(received, *, has_body):
    """(status, headers, body) of a complete answer; None while some of it is missing."""
    head, found, rest = received.partition(b"\r\n\r\n")
    if not found:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    status = int(first.split()[1])
    if not has_body or status in (204, 304):
        return status, headers, b""
    if "content-length" in headers:
        return (status, headers, rest) if len(rest) >= int(headers["content-length"]) else None
    return (status, headers, unchunked(rest)) if rest.endswith(b"0\r\n\r\n") else None


def unchunked(body):
    """What was sent in chunks."""
    found = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if not (length := int(size, 16)):
            return found
        found, body = found + body[:length], body[length + 2 :]


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
        except (OSError, TimeoutError) as error:
            if retries:
                await asyncio.sleep(RETRY_S)
                return await self.ask(content, retries=retries - 1)
            return Answer(status=type(error).__name__, seconds=clock() - begun)
        return Answer(status=status, seconds=clock() - begun, headers=headers, body=body)

    async def close(self):
        """Close all that is kept."""
        while self.idle:
            self.idle.pop().transport.close()
        await asyncio.sleep(0)

    async def _exchanged(self, content):
        connection, is_kept = await self._connection(), False
        try:
            status, headers, body = await connection.ask(content)
            is_kept = headers.get("connection") != "close"
            return status, headers, body
        finally:
            if is_kept:
                self.idle.append(connection)
            else:
                connection.transport.close()

    async def _connection(self):
        while self.idle:
            if not (connection := self.idle.pop()).is_dropped():
                return connection
        _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self.port)
        return connection


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
