"""Connections to Redis: shared by threads, never out of step, never another process's, never one that is closed."""

from __future__ import annotations

import secrets
import socket
import struct
import subprocess
import sys
import threading

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from waiting import at_once, wait_until

from strategies.redis_connections import Connections

FORKED = """
import os, sys, redis
from strategies.redis_connections import Connections

connections = Connections(redis.ConnectionPool.from_url(sys.argv[1], protocol=2))
identity = lambda: connections.call("CLIENT", "ID")
mine = identity()
child = os.fork()
if child == 0:
    os._exit(0 if identity() not in (mine, None) and connections.call("ECHO", "child") == b"child" else 1)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(status, identity() == mine, connections.call("ECHO", "parent").decode())
"""

UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import socket, redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from strategies.redis_connections import Connections

silent = socket.create_server(("127.0.0.1", 0))
options = {"port": silent.getsockname()[1], "driver_info": None, "retry": Retry(NoBackoff(), 0)}
try:
    Connections(redis.ConnectionPool(protocol=2, socket_timeout=0.5, **options)).call("PING")
except redis.TimeoutError as error:
    print(error)
"""


@pytest.fixture
def name():
    """Return a name for the test's connections."""
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
def connections(redis_url, name):
    """Return connections whose calls have two seconds."""
    options = {"client_name": name, "socket_timeout": 2.0, "protocol": 2, "retry": Retry(NoBackoff(), 0)}
    connections = Connections(redis.ConnectionPool.from_url(redis_url, **options))
    yield connections
    connections.close()


@pytest.fixture
def client(redis_url):
    """Return a client for looking into Redis."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def opened(client, name):
    """Return the ids of the connections of this name that Redis has open."""
    return [entry["id"] for entry in client.client_list() if entry["name"] == name]


def test_answers(connections, name):
    """Answers come as they stand in the protocol, and text goes out as UTF-8."""
    key = f"{name}-hash"
    assert connections.call("HSET", key, "café", b"\0\xff", "n", 7) == 2
    assert connections.call("HGETALL", key) == ["café".encode(), b"\0\xff", b"n", b"7"]
    assert connections.call("HGET", key, "none") is None
    assert connections.call("DEL", key) == 1


def test_long_answers(connections):
    """A command and an answer of many packets come whole."""
    text = secrets.token_bytes(1_000_000)
    assert connections.call("ECHO", text) == text


def test_one_for_many_threads(connections, client, name):
    """Threads that come and go one after the other use one connection; those at once no more than there are calls."""
    for _ in range(20):
        thread = threading.Thread(target=connections.call, args=("PING",))
        thread.start()
        thread.join()
    assert len(opened(client, name)) == 1
    for _ in range(5):
        at_once(*[lambda: connections.call("PING")] * 8)
    assert len(opened(client, name)) <= 8
    connections.close()
    wait_until(lambda: opened(client, name) == [])


def test_threads_get_their_own_answers(connections):
    """Of many threads that call at once each gets the answer to its own question."""

    def ask(number):
        return lambda: [connections.call("ECHO", str(number)) for _ in range(50)]

    answers = at_once(*[ask(number) for number in range(8)])
    assert answers == [[str(number).encode()] * 50 for number in range(8)]


def test_refusal(connections, client, name):
    """A command that Redis refuses raises, and leaves the connection as good as it was."""
    connections.call("PING")
    before = opened(client, name)
    for _ in range(3):
        with pytest.raises(redis.ResponseError):
            connections.call("HGETALL")
    assert connections.call("ECHO", "well") == b"well"
    assert opened(client, name) == before


def test_late_answer(connections, client, name):
    """An answer that comes after the time-out is nobody's: the connection it would come on is closed."""
    key = f"{name}-list"
    with pytest.raises(redis.TimeoutError):
        connections.call("BLPOP", key, 0)
    client.rpush(key, "late")
    assert connections.call("ECHO", "mine") == b"mine"
    assert connections.call("DEL", key) == 1  # nobody took it


class Interrupts:
    """Reads nothing."""

    def gets(self):
        """End the call as Ctrl-C would."""
        raise KeyboardInterrupt


def test_interrupted(connections, name):
    """Whatever ends a call between question and answer, the next call neither gets that answer nor waits for it."""
    connections.call("PING")
    connections._idle[0]._reader = Interrupts()
    with pytest.raises(KeyboardInterrupt):
        connections.call("BLPOP", f"{name}-list", 0)
    assert connections.call("ECHO", "second") == b"second"


def test_closed_by_the_server(connections, client, name):
    """A connection that Redis has closed meanwhile costs no call: it is noticed before anything is sent."""
    at_once(*[lambda: connections.call("PING")] * 4)
    for _ in range(10):
        for identity in opened(client, name):
            client.client_kill_filter(_id=identity)
        wait_until(lambda: opened(client, name) == [])
        assert connections.call("ECHO", "still") == b"still"


@pytest.mark.timeout(30)
def test_closed_while_waiting(connections, client, name):
    """A connection that Redis closes while a call waits for its answer ends that call, and no other."""

    def kill():
        wait_until(lambda: blocked(client, name))
        client.client_kill_filter(_id=blocked(client, name)[0])

    def wait():
        with pytest.raises(redis.ConnectionError):
            connections.call("BLPOP", f"{name}-list", 1.5)

    at_once(wait, kill)
    assert connections.call("ECHO", "well") == b"well"


def blocked(client, name):
    """Return the ids of the connections of this name that wait in BLPOP."""
    return [entry["id"] for entry in client.client_list() if entry["name"] == name and entry["cmd"] == "blpop"]


class Listener:
    """A server that takes one connection, reads a command, and ends the connection in its own way."""

    def __init__(self, end, **options):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._end = end
        port = self._socket.getsockname()[1]
        self.pool = redis.ConnectionPool(
            port=port, protocol=2, driver_info=None, retry=Retry(NoBackoff(), 0), **options
        )

    def __call__(self):
        """Serve."""
        with self._socket:
            connection, _ = self._socket.accept()
            with connection:
                connection.recv(100)
                self._end(connection)


def tear_down(connection):
    """Have the connection reset as it is closed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def answer_half(connection):
    """Begin an answer, and leave it at that."""
    connection.sendall(b"$100\r\nhalf")


@pytest.mark.parametrize(
    ("end", "told"),
    [(tear_down, "reset"), (answer_half, "has closed the connection"), (lambda _: None, "has closed the connection")],
)
def test_ended_without_an_answer(end, told):
    """However a connection ends before the answer is whole, the call ends, too, with an error of Redis's."""
    listener, raised = Listener(end), []

    def call():
        try:
            Connections(listener.pool).call("PING")
        except redis.RedisError as error:
            raised.append(error)

    threads = [threading.Thread(target=each, daemon=True) for each in (listener, call)]  # who waits for ever is left
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [type(error) for error in raised] == [redis.ConnectionError]
    assert told in str(raised[0])


class Short(redis.Connection):
    """A connection that is over as soon as it is made."""

    def connect(self):
        """Connect, and have nothing of it."""
        super().connect()
        self._sock.close()


def test_closed_before_it_is_set_up(redis_url):
    """A connection that ends as soon as it is made is an error of Redis's as well, whatever the system says of it."""
    pool = redis.ConnectionPool.from_url(redis_url, connection_class=Short, socket_timeout=2.0)
    with pytest.raises(redis.ConnectionError, match="Bad file descriptor"):
        Connections(pool).call("PING")


@pytest.mark.timeout(60)
def test_nobody_reads():
    """A command that the server does not take has its time-out, too."""
    over = threading.Event()
    listener = Listener(lambda _: over.wait(60), socket_timeout=0.5)
    serving = threading.Thread(target=listener, daemon=True)
    serving.start()
    try:
        with pytest.raises(redis.TimeoutError):
            Connections(listener.pool).call("ECHO", bytes(50_000_000))
    finally:
        over.set()
        serving.join()


def test_fork(redis_url):
    """A forked process makes a connection of its own, and leaves its parent's as it was."""
    done = subprocess.run([sys.executable, "-c", FORKED, redis_url], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0 True parent\n", "")


def test_silent_server_under_gevent():
    """Where gevent waits in the kernel's place, a call has its time-out nevertheless."""
    done = subprocess.run([sys.executable, "-c", UNDER_GEVENT], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("no answer in time\n", "")
