"""An all-to-all cluster inside the test process: real stores, real HTTP between them."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

import msgspec
import waitress
from waitress import wasyncore

from strategies.all_to_all import AllToAllStore
from strategies.contract import Peer, StoreSettings
from strategies.peer_http import Message, PeerClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from strategies.peer_http import Kind
    from strategies.replica import Copy

SECRET = "test-secret"


def wait_until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Return when the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)


def bound_socket(port: int = 0) -> socket.socket:
    """Return a TCP socket bound to a loopback port, free unless named; it does not listen yet."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


class Listener:
    """Serves a WSGI application on a bound socket, in a thread, until stopped."""

    def __init__(self, app: Any, bound: socket.socket) -> None:
        self._channels: dict[int, Any] = {}
        self._server = waitress.create_server(app, map=self._channels, sockets=[bound], threads=4)  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the listener and every connection; nobody answers on the port from here on. Once is enough."""
        if not self._thread.is_alive():
            return
        with contextlib.suppress(OSError):  # it may have closed its trigger before this call pulls it
            self._server.trigger.pull_trigger(lambda: wasyncore.close_all(self._channels, ignore_all=True))
        self._thread.join(5)
        self._server.task_dispatcher.shutdown()


class Wire:
    """Takes the place of the peers: keeps what servers tell, for the test to deliver. Nobody can be asked."""

    def __init__(self) -> None:
        self.told: list[Message] = []

    def connect(self, store: AllToAllStore) -> AllToAllStore:
        """Have a store tell this wire what it would tell its peers."""
        store._peers.close()
        store._peers = self  # type: ignore[assignment]
        return store

    def tell(self, kind: Kind, copy: Copy, *, bars: bool = False) -> None:
        """Keep a change."""
        self.told.append(Message(kind, copy))

    def ask(self, *_: object, **__: object) -> bool:
        """Reach nobody."""
        return False

    def counts(self) -> Counter[str]:
        """Count nothing."""
        return Counter()

    def close(self) -> None:
        """Nothing is open."""


class Cluster:
    """Stores `web-1` to `web-n` that reach each other over HTTP on loopback; any of them can be killed and started.

    Args:
        servers: how many.
        clock: tells all of them the time, in seconds since the epoch.
        settings: any fields of `StoreSettings` but server, peers and secret.
    """

    def __init__(self, servers: int = 3, clock: Callable[[], float] = time.time, **settings: Any) -> None:
        self._settings = StoreSettings(namespace="test", peer_secret=SECRET, **settings)
        self._clock = clock
        sockets = [bound_socket() for _ in range(servers)]
        ports = [bound.getsockname()[1] for bound in sockets]
        self.peers = tuple(Peer(f"web-{i + 1}", f"http://127.0.0.1:{port}") for i, port in enumerate(ports))
        self.stores = [AllToAllStore(self._settings_of(i), clock) for i in range(servers)]
        self._listeners = [Listener(store.peer_app, s) for store, s in zip(self.stores, sockets, strict=True)]
        joins = [threading.Thread(target=store.join) for store in self.stores]
        for join in joins:
            join.start()
        for join in joins:
            join.join()

    def __enter__(self) -> Self:
        """Give the running cluster."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything."""
        self.close()

    def quiet(self) -> None:
        """Wait until every server has received all that the others saved."""
        wait_until(lambda: all(store.queues_empty() for store in self.stores))

    def stop_listening(self, index: int) -> None:
        """Make one server unreachable for its peers, its memory untouched."""
        self._listeners[index].stop()

    def listen_again(self, index: int) -> None:
        """Make it reachable again, on the same port."""
        port = int(self.peers[index].url.rpartition(":")[2])
        self._listeners[index] = Listener(self.stores[index].peer_app, bound_socket(port))

    @contextlib.contextmanager
    def hanging(self, index: int) -> Iterator[None]:
        """Make one server hang for the length of a `with` block: connections are taken, nothing is answered."""
        self._listeners[index].stop()
        with bound_socket(int(self.peers[index].url.rpartition(":")[2])) as silent:
            silent.listen(64)
            yield
        self.listen_again(index)

    def speechless(self, index: int, peer: int) -> threading.Event:
        """Have one server wait for a peer's answers to its questions until the returned event is set."""
        released = threading.Event()

        def ask(_: list[str]) -> list[Copy]:
            released.wait(30)
            return []

        self.stores[index]._peers._askers[self.peers[peer].name].ask = ask  # type: ignore[method-assign]
        return released

    def restart(self, index: int) -> AllToAllStore:
        """Start one server anew, after `stop_listening`, with an empty memory; return its store, joined."""
        self.stores[index].close()
        self.stores[index] = AllToAllStore(self._settings_of(index), self._clock)
        self.listen_again(index)
        self.stores[index].join()
        return self.stores[index]

    def meet(self) -> None:
        """Tell every server, over HTTP, of one more that does not answer yet."""
        self._bound = bound_socket()
        newcomer = Peer(f"web-{len(self.peers) + 1}", f"http://127.0.0.1:{self._bound.getsockname()[1]}")
        for peer in self.peers:
            client = PeerClient(peer, SECRET, 5)
            client.meet(newcomer)
            client.close()
        self.peers += (newcomer,)

    def start_newcomer(self) -> AllToAllStore:
        """Start the server that the others have met; return its store, joined."""
        self.stores.append(AllToAllStore(self._settings_of(len(self.stores)), self._clock))
        self._listeners.append(Listener(self.stores[-1].peer_app, self._bound))
        self.stores[-1].join()
        return self.stores[-1]

    def close(self) -> None:
        """Stop stores and listeners."""
        for store in self.stores:
            store.close()
        for listener in self._listeners:
            listener.stop()

    def _settings_of(self, index: int) -> StoreSettings:
        others = tuple(peer for i, peer in enumerate(self.peers) if i != index)
        return msgspec.structs.replace(self._settings, server=self.peers[index].name, peers=others)
