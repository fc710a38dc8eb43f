"""How servers in containers find each other: DNS lists the addresses of a service, and each address says who it is."""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from ipaddress import ip_address
from secrets import token_hex
from typing import TYPE_CHECKING, Protocol

import msgspec
import psutil
import requests

from lab.errors import LabError
from lab.servers.environment import INTERNAL_PORT
from strategies.contract import Peer
from strategies.peer_http import PeerClient, PeerError

if TYPE_CHECKING:
    from collections.abc import Iterable

LOOK_SECONDS = 2.0
"""How often a server looks who is there."""

FORGET_SECONDS = 10.0
"""How long DNS may not list a server until it counts as gone for good."""

ADDRESS_SECONDS = 15.0
"""How long DNS may take to list a container that has started."""

_ANSWER_SECONDS = 1.0
_MEET_SECONDS = 10.0

_log = logging.getLogger(__name__)


class Who(msgspec.Struct, frozen=True):
    """What a server says of itself to whoever asks (`GET /_lab/who`).

    Attributes:
        server: its name among its peers, another one after every start.
    """

    server: str


_decode_who = msgspec.json.Decoder(Who).decode


class Meets(Protocol):
    """What looking around needs of a store whose servers are peers."""

    def meet(self, newcomer: Peer) -> None:
        """Take note of one more server."""

    def forget(self, name: str) -> None:
        """Take note that a server is gone for good."""


def addresses_of(service: str) -> set[str]:
    """Return the IPv4 addresses that DNS lists for a name, none if it does not know it."""
    try:
        found = socket.getaddrinfo(service, None, socket.AF_INET, socket.SOCK_STREAM)
    except socket.gaierror:
        return set()
    return {str(entry[4][0]) for entry in found}


def own_address(service: str) -> str:
    """Return which of a service's addresses is this container's.

    In a swarm DNS does not list a container before it is healthy. But there it is in one network only, and so has one
    address. Where it has several, DNS says which.

    Raises:
        LabError: it has several, and DNS lists none of them within `ADDRESS_SECONDS`.
    """
    own = _own_addresses()
    if len(own) == 1:
        return own.pop()
    deadline = time.monotonic() + ADDRESS_SECONDS
    while True:
        if listed := sorted(_own_addresses() & addresses_of(service)):
            return listed[0]
        if time.monotonic() > deadline:
            raise LabError(f"DNS does not list this container under {service!r} (SERVICE)")
        time.sleep(0.1)


def _own_addresses() -> set[str]:
    """Return this container's IPv4 addresses on its networks."""
    every = (entry for entries in psutil.net_if_addrs().values() for entry in entries)
    return {entry.address for entry in every if entry.family == socket.AF_INET and not _is_local(entry.address)}


def _is_local(address: str) -> bool:
    return ip_address(address).is_loopback


def name_of(service: str, address: str) -> str:
    """Return a container's name as students see it: `web-3`, the third of its service.

    Docker's DNS knows an address as `project_service_3.network`, `project-service-3.network` or, in a swarm,
    `stack_service.3.task.network`. Where it tells no number, the address' last one serves.
    """
    try:
        full = socket.gethostbyaddr(address)[0]
    except OSError:
        full = ""
    return numbered(full, service, address)


def numbered(full: str, service: str, address: str) -> str:
    """Return `web-3` for the full name of a service's third container; see `name_of`."""
    found = re.search(rf"{re.escape(service.removeprefix('tasks.'))}[-_.](\d+)(?:\.|$)", full)
    return f"web-{found[1] if found else address.rpartition('.')[2]}"


def name_among_peers(name: str) -> str:
    """Return a name that no server had before: what a server saves carries it, also after its container's restart."""
    return f"{name}-{token_hex(2)}"


class Neighbours:
    """The other servers of this one's cluster, by address.

    Args:
        service: the name under which DNS lists them all.
        address: this server's own.
        port: of everybody's internal routes.
    """

    def __init__(self, service: str, address: str, port: int = INTERNAL_PORT) -> None:
        self._service = service
        self._address = address
        self._port = port
        self._http = requests.Session()
        self._http.trust_env = False
        self._known: dict[str, str] = {}
        self._unlisted: dict[str, float] = {}

    def look(self) -> list[Peer]:
        """Return the servers that answer and were not known before."""
        listed = addresses_of(self._service) - {self._address}
        found = []
        for address in sorted(listed):
            name = self._ask(address)
            if name is not None and self._known.get(address) != name:
                self._known[address] = name
                found.append(Peer(name, self._url(address)))
        self._note_gone(listed)
        return found

    def gone(self) -> list[str]:
        """Return the names of servers that DNS has not listed for `FORGET_SECONDS`, under any address, each once."""
        limit = time.monotonic() - FORGET_SECONDS
        addresses = [address for address, since in self._unlisted.items() if since <= limit]
        for address in addresses:
            del self._unlisted[address]
        names = [self._known.pop(address) for address in addresses]
        return [name for name in names if name not in self._known.values()]

    def introduce(self, server: str, secret: str, peers: Iterable[Peer]) -> None:
        """Have each peer know of this server before it asks one for the state; leave out who does not answer."""
        newcomer = Peer(server, self._url(self._address))
        for peer in peers:
            client = PeerClient(peer, secret, _ANSWER_SECONDS)
            deadline = time.monotonic() + _MEET_SECONDS
            try:
                while not _met(client, newcomer) and time.monotonic() < deadline:
                    time.sleep(0.05)
            finally:
                client.close()

    def keep_looking(self, store: Meets) -> None:
        """Have the store meet who comes and forget who is gone for good, in the background, until the process ends."""
        threading.Thread(target=self._keep_looking, args=(store,), name="neighbours", daemon=True).start()

    def _keep_looking(self, store: Meets) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            try:
                for peer in self.look():
                    _log.info("%s is there: %s", peer.name, peer.url)
                    store.meet(peer)
                for name in self.gone():
                    _log.info("%s is gone", name)
                    store.forget(name)
            except Exception:  # noqa: BLE001 - whatever it is, there is a next time
                _log.exception("looking around failed")

    def _ask(self, address: str) -> str | None:
        try:
            answer = self._http.get(f"{self._url(address)}/_lab/who", timeout=_ANSWER_SECONDS)
            return _decode_who(answer.content).server if answer.ok else None
        except (requests.RequestException, msgspec.DecodeError):
            return None

    def _note_gone(self, listed: set[str]) -> None:
        now = time.monotonic()
        since = {address: self._unlisted.get(address, now) for address in self._known if address not in listed}
        self._unlisted = since

    def _url(self, address: str) -> str:
        return f"http://{address}:{self._port}"


def _met(client: PeerClient, newcomer: Peer) -> bool:
    try:
        client.meet(newcomer)
    except PeerError:
        return False
    return True
