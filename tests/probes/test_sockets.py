"""Bytes and segments of a process's own sockets: a known amount goes through, and is read back."""

from __future__ import annotations

import socket
import sys

import pytest

from lab.probes.sockets import own_sockets

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux counts for its owner")


def test_bytes_and_segments_of_both_ends_are_exact():
    """What was sent and received through a socket is what the kernel is asked for, to the byte."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as client, listener.accept()[0] as server:
            for _ in range(25):
                client.sendall(b"x" * 1000)
                _receive(server, 1000)
                server.sendall(b"y" * 440)
                _receive(client, 440)
            totals = {one.local_port: one for one in own_sockets() or []}
            client_port, server_port = client.getsockname()[1], listener.getsockname()[1]

        mine, theirs = totals[client_port], totals[server_port]
        assert (mine.remote_port, theirs.remote_port) == (server_port, client_port)
        assert (mine.bytes_sent, mine.bytes_received) == (25_000, 11_000)
        assert (theirs.bytes_sent, theirs.bytes_received) == (11_000, 25_000)
        assert (mine.segments_sent, mine.segments_received) == (25, 25)


def test_a_system_that_does_not_count_says_none(monkeypatch):
    """Where the kernel has no totals, the answer is None and never a zero."""
    monkeypatch.setattr(sys, "platform", "darwin")

    assert own_sockets() is None


def _receive(sock, size):
    while size:
        size -= len(sock.recv(size))
