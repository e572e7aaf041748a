"""Clients that send slowly, or nothing, or take no answer: they are let go, and nobody else notices."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest

from serving.access import token_store
from serving.connections import HEADERS_S, TAKING_S
from tests.load import Client, open_loop, p99, request, statuses, unlimited, use
from tests.servers import TENURE, free_port, running

FULL = os.environ.get("HYPOTHESIS_PROFILE") == "full"
BODIES, HEADERS, IDLE = (300, 200, 100) if FULL else (60, 40, 20)
CLOSED_S = 15
RATE = 20
ROW = {"rows": [{"account_id": "a", "features": {"tenure_days": 400}}], "partial": True}


@pytest.fixture(scope="module")
def server(trained_world, tmp_path_factory):
    """Port, process and the secret of somebody who may ask."""
    folder = tmp_path_factory.mktemp("slow")
    company = unlimited(shutil.copytree(trained_world, folder / "world") / "tenure.toml")
    _, secret = token_store(company).create(role="admin", now=datetime.now(UTC))
    port, started = free_port(), []
    with running([TENURE, "serve", f"--port={port}", f"--config={company.path}"], port, folder / "log", started):
        yield port, started[0].pid, secret


def steadily(port, secret, seconds):
    """The answers to somebody who asks at an even pace."""

    async def run():
        client = Client(port)
        found = await open_loop(client, [request("POST", "/v1/score", secret, ROW)], rate=RATE, seconds=seconds)
        await client.close()
        return found

    return asyncio.run(run())


def connected(stack, port, content, count):
    found = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(count)]
    for each in found:
        each.sendall(content)
        each.setblocking(False)
    return found


def is_closed(each):
    """Whether the other side has ended the connection; what it said before is read and dropped."""
    try:
        while content := each.recv(2**16):
            assert content.startswith(b"HTTP/1.1 408")
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    return True


def until(holds, seconds):
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.2)
    return holds()


def test_half_requests_and_idle_connections_are_closed_and_nobody_else_notices(server):
    port, pid, secret = server
    quiet, before = steadily(port, secret, 5), use(pid)
    whole = request("POST", "/v1/score", secret, ROW)
    with ExitStack() as stack:
        slow = [
            *connected(stack, port, whole[:-10], BODIES),
            *connected(stack, port, whole[:40], HEADERS),
            *connected(stack, port, b"", IDLE),
        ]
        opened = time.monotonic()
        others = steadily(port, secret, 8)
        all_closed = until(lambda: all(map(is_closed, slow)), CLOSED_S - (time.monotonic() - opened))
    settled = until(lambda: abs(use(pid).fds - before.fds) <= 5, 10)

    print(f"p99 quiet {p99(quiet):.4f} s, beside {len(slow)} slow {p99(others):.4f} s; {before} -> {use(pid)}")
    assert all_closed
    assert statuses(others) == {200: len(others)}
    assert settled


def test_headers_a_byte_at_a_time_do_not_hold_a_connection(server):
    port, _, secret = server
    with ExitStack() as stack:
        slow = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        slow.sendall(request("GET", "/livez"))
        assert slow.recv(2**16).startswith(b"HTTP/1.1 200"), "the second request of a connection is the slow one"
        slow.setblocking(False)
        started = time.monotonic()
        for byte in request("GET", "/v1/lists", secret):
            if is_ended := _is_ended(slow, bytes([byte])):
                break
            time.sleep(0.25)
        took = time.monotonic() - started

    assert is_ended
    assert HEADERS_S - 1 <= took <= HEADERS_S + 3


def _is_ended(each, byte):
    try:
        each.sendall(byte)
        return each.recv(100) == b""
    except BlockingIOError:
        return False
    except (ConnectionResetError, BrokenPipeError):
        return True


@pytest.mark.long("ten seconds of waiting")
def test_a_client_that_takes_no_answer_is_let_go(server):
    port, pid, secret = server
    before = use(pid).fds
    with socket.socket() as greedy:
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        greedy.connect(("127.0.0.1", port))
        for _ in range(40):  # More than the kernel keeps for a reader.
            greedy.sendall(request("GET", "/v1/lists/latest", secret))
        assert until(lambda: use(pid).fds > before, 5)
        is_let_go = until(lambda: use(pid).fds <= before, TAKING_S + 10)

    assert is_let_go
