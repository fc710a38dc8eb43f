"""Emulated links: all bytes arrive, in order, later by the delay, and nothing of a link stays."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest

from lab.engines.delay import DelayedLink
from lab.engines.ports import free_port
from tests.processes import alive

PATIENCE_SECONDS = 60.0

PROGRAM = """
import signal, sys
from pathlib import Path
from lab.engines.delay import DelayedLink
from lab.engines.keeper import Keeper

with Keeper(Path(sys.argv[1])) as keeper:
    print(DelayedLink.start(keeper, "link", [("127.0.0.1", 1)], 0.001).pid, flush=True)
    signal.pause()
"""


@pytest.fixture
def listener():
    """A socket that listens, to be a link's target."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE_SECONDS)
        yield listening


@pytest.fixture
def link_to(own_keeper, listener):
    """Connect through a link to the listener; returns both ends."""
    with contextlib.ExitStack() as stack:

        def connect(one_way_seconds):
            link = DelayedLink.start(own_keeper, "link", [listener.getsockname()], one_way_seconds)
            near = stack.enter_context(dial(link.ports[0]))
            far, _ = listener.accept()
            far.settimeout(PATIENCE_SECONDS)
            return near, stack.enter_context(far), link

        yield connect


def dial(port):
    """Connect to a port, with patience."""
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)


def read_all(sock):
    """Read to the end of what the other side sends."""
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))


@pytest.mark.parametrize("one_way_seconds", [0.0, 0.003])
def test_megabytes_arrive_whole_and_in_order_both_ways_at_once(link_to, one_way_seconds):
    """What is sent in pieces of all sizes arrives byte for byte, while as much comes back."""
    near, far, _ = link_to(one_way_seconds)
    chance = random.Random(1)
    there, back = (chance.randbytes(8_000_000) for _ in range(2))

    def send(sock, data):
        rest = data
        while rest:
            size = chance.choice((1, 100, 5_000, 300_000))
            sock.sendall(rest[:size])
            rest = rest[size:]
        sock.shutdown(socket.SHUT_WR)

    received = {}
    threads = [
        threading.Thread(target=send, args=(near, there)),
        threading.Thread(target=send, args=(far, back)),
        threading.Thread(target=lambda: received.update(there=read_all(far))),
        threading.Thread(target=lambda: received.update(back=read_all(near))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert received == {"there": there, "back": back}


def test_bytes_come_later_by_the_delay_and_later_ones_do_not_wait_for_them(link_to):
    """Each direction takes the delay; what follows is under way at the same time, not one after the other."""
    near, far, _ = link_to(0.2)
    began = time.monotonic()
    for _ in range(200):
        near.sendall(b"x" * 100)
        time.sleep(0.001)
    near.shutdown(socket.SHUT_WR)
    assert len(read_all(far)) == 20_000
    assert 0.2 <= time.monotonic() - began < 200 * 0.2
    began = time.monotonic()
    far.sendall(b"y")
    assert near.recv(1) == b"y"
    assert time.monotonic() - began >= 0.2


def test_a_reader_that_takes_its_time_gets_everything(link_to):
    """A full link makes the sender wait, and loses nothing."""
    near, far, _ = link_to(0.001)
    data = random.Random(2).randbytes(16_000_000)
    sent = []

    def send():
        near.sendall(data)
        sent.append(True)
        near.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    time.sleep(0.3)
    assert not sent  # the link holds on to a bounded amount
    assert read_all(far) == data
    sender.join()


def test_one_side_may_end_and_still_listen(link_to):
    """An end of one direction is passed on; the answer still comes."""
    near, far, _ = link_to(0.002)
    near.sendall(b"a question")
    near.shutdown(socket.SHUT_WR)
    assert read_all(far) == b"a question"
    far.sendall(b"an answer")
    far.close()
    assert read_all(near) == b"an answer"


def test_a_connection_that_is_reset_is_reset_at_the_other_end(link_to):
    """A server that dies with the connection open is not taken for one that says nothing."""
    near, far, _ = link_to(0.002)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    with pytest.raises(ConnectionResetError):
        read_all(near)


def test_nobody_at_the_other_end_ends_the_connection(own_keeper):
    """Whoever connects where nobody listens learns it, instead of waiting for ever."""
    link = DelayedLink.start(own_keeper, "link", [("127.0.0.1", free_port())], 0.001)
    with contextlib.suppress(ConnectionResetError), dial(link.ports[0]) as near:
        assert near.recv(1) == b""


def test_each_port_leads_to_its_own_target(own_keeper):
    """Ports come in the order of the targets."""
    with contextlib.ExitStack() as stack:
        targets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        link = DelayedLink.start(own_keeper, "link", [target.getsockname() for target in targets], 0.001)
        for number, (port, target) in enumerate(zip(link.ports, targets, strict=True)):
            target.settimeout(PATIENCE_SECONDS)
            with dial(port) as near:
                far, _ = target.accept()
                with far:
                    far.sendall(bytes([number]))
                    assert near.recv(1) == bytes([number])


def test_nothing_of_a_stopped_link_stays(link_to):
    """Its connections are cut, its ports refuse and its process is gone."""
    near, far, link = link_to(0.001)
    link.stop()
    link.stop()
    assert alive([link.pid]) == []
    for end in (near, far):
        with contextlib.suppress(ConnectionResetError):
            assert end.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        dial(link.ports[0])


def test_a_link_does_not_outlive_a_killed_lab(tmp_path):
    """`kill -9` of the lab ends it, too."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as lab:
        pid = int(lab.stdout.readline())
        assert alive([pid]) == [pid]
        lab.send_signal(signal.SIGKILL)
        lab.wait()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while alive([pid]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
