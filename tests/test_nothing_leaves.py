"""A service listens at its own port alone, and neither it nor a training connects to any other machine."""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from serving.access import token_store
from tests.load import unlimited
from tests.servers import TENURE, descendants, free_port, running

FULL = os.environ.get("HYPOTHESIS_PROFILE") == "full"
REQUESTS = 1_000 if FULL else 50
LISTEN = "0A"
WATCH = """
import os, sys

def watched(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        host = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
        with open(os.environ["WATCHED"], "a") as file:
            file.write(f"{event} {host[0] if isinstance(host, tuple) else host}\\n")

sys.addaudithook(watched)
"""


@pytest.fixture
def company(trained_world, tmp_path):
    return unlimited(shutil.copytree(trained_world, tmp_path / "world") / "tenure.toml")


@pytest.fixture
def watched(tmp_path):
    """The environment in which Python tells of every connection, and the file that it tells."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    told = tmp_path / "connections"
    told.touch()
    return {"PYTHONPATH": str(tmp_path / "watch"), "WATCHED": str(told)}, told


def outside(told):
    """The addresses of other machines among those told."""
    hosts = {line.partition(" ")[2] for line in told.read_text().splitlines()}
    return {host for host in hosts if not is_here(host)}


def is_here(host):
    if host.startswith("/") or host in ("", "None", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listening(pid):
    """(address, port) of every socket at which a process or one below it waits for connections."""
    inodes = {
        os.readlink(handle)[8:-1]
        for process in [pid, *descendants(pid)]
        for handle in Path(f"/proc/{process}/fd").iterdir()
        if os.readlink(handle).startswith("socket:")
    }
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == LISTEN and inode in inodes:
                address, port = local.split(":")
                yield address, int(port, 16)


def test_the_watch_notices_a_connection_to_another_machine(watched):
    environment, told = watched
    ask = "import socket\ntry:\n    socket.create_connection(('192.0.2.1', 9), timeout=0.01)\nexcept OSError:\n    pass"
    subprocess.run([TENURE.with_name("python"), "-c", ask], env={**os.environ, **environment}, check=True)

    assert outside(told) == {"192.0.2.1"}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long("workers"))])
def test_a_service_has_one_port_and_connects_to_no_other_machine(company, tmp_path, watched, workers):
    environment, told = watched
    _, secret = token_store(company).create(role="ds", now=datetime.now(UTC))
    port, started = free_port(), []
    command = [TENURE, "serve", f"--port={port}", f"--workers={workers}", f"--config={company.path}"]
    with (
        running(command, port, tmp_path / "log", started=started, **environment) as base,
        httpx.Client(base_url=base, headers={"authorization": f"Bearer {secret}"}) as client,
    ):
        for number in range(REQUESTS):
            client.post("/v1/score", json={"rows": [{"account_id": f"{number}", "features": {}}], "partial": True})
        client.get("/metrics")
        found = set(listening(started[0].pid))
        unknown = [client.get(path).status_code for path in ("/docs.json", "/schema.json", "/static_content/index.css")]

    assert found == {("0100007F", port)}
    assert outside(told) == set()
    assert unknown == [404, 404, 404]


@pytest.mark.long("a training")
def test_a_training_and_a_list_connect_to_no_other_machine(company, watched):
    environment, told = watched
    for command in (["train", "--draws=50", "--folds=1"], ["score", "--as-of=2025-04-01"]):
        done = subprocess.run(
            [TENURE, *command, f"--config={company.path}"], env={**os.environ, **environment}, capture_output=True
        )
        assert done.returncode == 0, done.stderr

    assert outside(told) == set()
