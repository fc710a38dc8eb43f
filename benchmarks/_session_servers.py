"""The web servers that `session_cost` compares: one Flask view, and one way to keep its session each.

Every server is a process of its own, served as the lab serves its shop: waitress with four threads.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import flask
import flask_session
import hiredis
import msgspec
import psycopg
import redis
from flask.sessions import SessionInterface, SessionMixin
from flask_sqlalchemy import SQLAlchemy
from waitress.server import create_server
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from lab.servers.listener import THREADS
from strategies import load_store_class
from strategies.contract import StoreSettings
from strategies.session_interface import ServerSideSessions

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable
    from multiprocessing.connection import Connection
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from flask import Flask, Request, Response

FIELDS = 20
WRITTEN = "field-07"
SIZES_KB = (1, 8, 48)


def contents(size_kb: int) -> dict[str, str]:
    """Return a session of this size: 20 fields of text, names and quotation marks counted."""
    length = size_kb * 1024 // FIELDS - len(WRITTEN) - 2
    return {f"field-{number:02}": (f"{number:02} some text " * length)[:length] for number in range(FIELDS)}


class ServerPlan(msgspec.Struct, frozen=True):
    """What one server is to do.

    Attributes:
        way: how it keeps sessions, a key of `WAYS`.
        settings: of a store of ours; the URLs serve every way.
        unlogged: whether its table in PostgreSQL is to go without the log, and so without waiting for the disk.
    """

    way: str
    settings: StoreSettings
    unlogged: bool = False


def serve(plan: ServerPlan, public: socket.socket, internal: socket.socket, ready: Connection) -> None:
    """Serve until the process is ended.

    Args:
        plan: see there.
        public: bound, for the view.
        internal: bound, for the peers.
        ready: told None when it serves, or what went wrong.
    """
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a queue is what load looks like
    try:
        app = _app()
        WAYS[plan.way](app, plan, internal)
        server = create_server(
            _with_cpu_time(app), sockets=[public], threads=THREADS, ident=None, asyncore_use_poll=True
        )
    except Exception as error:
        ready.send(repr(error))
        raise
    ready.send(None)
    server.run()


def _app() -> Flask:
    """Return the application whose sessions are measured; it does not know how they are kept."""
    app = flask.Flask("session_cost")
    app.secret_key = secrets.token_hex(16)
    turn = iter(range(2**62))

    @app.get("/fill/<int:size_kb>")
    def fill(size_kb: int) -> str:
        flask.session.update(contents(size_kb))
        return "filled"

    @app.get("/untouched/<int:size_kb>")
    def untouched(size_kb: int) -> str:
        return str(size_kb)

    @app.get("/read/<int:size_kb>")
    def read(size_kb: int) -> str:  # noqa: ARG001 - tells the sessionless servers what to pretend
        return str(_read_all())

    @app.get("/write/<int:size_kb>")
    def write(size_kb: int) -> str:  # noqa: ARG001 - as above
        length = _read_all()
        flask.session[WRITTEN] = f"{next(turn):09}" + flask.session[WRITTEN][9:]
        return str(length)

    return app


def _read_all() -> int:
    return sum(len(flask.session[f"field-{number:02}"]) for number in range(FIELDS))


def _with_cpu_time(app: WSGIApplication) -> WSGIApplication:
    """Answer `/cpu` with the nanoseconds of CPU time that this process has used, beside the application."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/cpu":
            return app(environ, start_response)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(time.process_time_ns()).encode()]

    return answer


class _Given(dict[str, str], SessionMixin):
    """A session that costs nothing: a dict that was there before."""


class NoSession(SessionInterface):
    """What everything is compared with: the view gets what it wants, and nobody keeps it."""

    def __init__(self) -> None:
        self._contents = {str(size_kb): contents(size_kb) for size_kb in SIZES_KB}

    def open_session(self, app: Flask, request: Request) -> SessionMixin:  # noqa: ARG002 - Flask's signature
        """Return a dict; before that, in the floor's arms, go where the view's session would come from."""
        _, operation, size_kb = request.path.split("/")
        if operation in ("read", "write"):
            self.fetch(size_kb)
        return _Given(self._contents[size_kb])

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:  # noqa: ARG002 - as above
        """Keep nothing; in the floor's arms, go where it would be kept."""
        _, operation, size_kb = flask.request.path.split("/")
        if operation in ("fill", "write"):
            self.put(size_kb, session if operation == "fill" else {WRITTEN: session[WRITTEN]})

    def fetch(self, size_kb: str) -> None:
        """Make the round trip of a load."""

    def put(self, size_kb: str, fields: SessionMixin | dict[str, str]) -> None:
        """Make the round trip of a save."""


class BareRedis(NoSession):
    """The floor: HGETALL and HSET on a socket, with the fastest packer and reader there is and nothing else."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._own = threading.local()

    def fetch(self, size_kb: str) -> None:
        """Read the hash."""
        self._ask("HGETALL", f"bare:{size_kb}")

    def put(self, size_kb: str, fields: SessionMixin | dict[str, str]) -> None:
        """Write fields of the hash."""
        self._ask("HSET", f"bare:{size_kb}", *[word for pair in fields.items() for word in pair])

    def _ask(self, *words: str) -> Any:
        own = self._own
        if not hasattr(own, "socket"):
            own.connection = redis.ConnectionPool.from_url(self._url, protocol=2).get_connection()
            own.socket = own.connection._sock  # noqa: SLF001 - the floor is what a library stands on
            own.reader = hiredis.Reader(notEnoughData=Ellipsis)
            own.buffer = bytearray(65536)
        own.socket.sendall(hiredis.pack_command(cast("Any", words)))
        while (answer := own.reader.gets()) is Ellipsis:
            own.reader.feed(own.buffer, 0, own.socket.recv_into(own.buffer))
        if isinstance(answer, Exception):
            raise answer
        return answer


class BarePostgreSQL(NoSession):
    """The floor: a prepared SELECT and a prepared UPDATE of one `jsonb` row, on libpq and nothing else."""

    def __init__(self, url: str, table: str, *, unlogged: bool) -> None:
        super().__init__()
        self._url = url
        self._table = table
        self._own = threading.local()
        with psycopg.connect(url, autocommit=True) as connection:
            kind = "UNLOGGED TABLE" if unlogged else "TABLE"
            connection.execute(
                f"CREATE {kind} {table} (handle text PRIMARY KEY, data jsonb NOT NULL) WITH (fillfactor = 80)".encode()
            )
            for size_kb in SIZES_KB:
                insert = f"INSERT INTO {table} VALUES (%s, '{{}}')".encode()  # noqa: S608 - a name of our own
                connection.execute(insert, [str(size_kb)])

    def fetch(self, size_kb: str) -> None:
        """Read the row."""
        self._run(b"fetch", size_kb.encode())

    def put(self, size_kb: str, fields: SessionMixin | dict[str, str]) -> None:
        """Write fields of the row."""
        self._run(b"put", size_kb.encode(), msgspec.json.encode(dict(fields)))

    def _run(self, name: bytes, *parameters: bytes) -> None:
        if not hasattr(self._own, "connection"):
            self._own.connection = psycopg.connect(self._url, autocommit=True)
            prepare = self._own.connection.pgconn.prepare
            prepare(b"fetch", f"SELECT data FROM {self._table} WHERE handle = $1::text".encode())  # noqa: S608 - as above
            prepare(
                b"put",
                f"UPDATE {self._table} SET data = data || $2::jsonb WHERE handle = $1::text".encode(),  # noqa: S608 - as above
            )
        result = self._own.connection.pgconn.exec_prepared(name, parameters)
        if result.error_message:
            raise RuntimeError(result.error_message.decode())


def _no_session(app: Flask, plan: ServerPlan, internal: socket.socket) -> None:  # noqa: ARG001 - all ways are asked alike
    app.session_interface = NoSession()


def _ours(strategy: str) -> Callable[[Flask, ServerPlan, socket.socket], None]:
    def keep(app: Flask, plan: ServerPlan, internal: socket.socket) -> None:
        store = load_store_class(strategy).open(plan.settings)
        if plan.unlogged:
            _without_log(plan.settings.database_url, plan.settings.namespace)
        if peer_app := getattr(store, "peer_app", None):
            routes = DispatcherMiddleware(NotFound(), {"/peers": peer_app})
            inner = create_server(routes, sockets=[internal], threads=THREADS, asyncore_use_poll=True)
            threading.Thread(target=inner.run, daemon=True).start()
        app.session_interface = ServerSideSessions(store)

    return keep


def _flask_session_redis(app: Flask, plan: ServerPlan, internal: socket.socket) -> None:  # noqa: ARG001 - see above
    app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis.Redis.from_url(plan.settings.redis_url or ""))
    flask_session.Session(app)


def _flask_session_sqlalchemy(app: Flask, plan: ServerPlan, internal: socket.socket) -> None:  # noqa: ARG001 - see above
    url = (plan.settings.database_url or "").replace("postgresql://", "postgresql+psycopg://")
    table = plan.settings.namespace
    app.config.update(SQLALCHEMY_DATABASE_URI=url, SESSION_TYPE="sqlalchemy", SESSION_SQLALCHEMY_TABLE=table)
    app.config["SESSION_SQLALCHEMY"] = SQLAlchemy(app)
    flask_session.Session(app)
    if plan.unlogged:
        _without_log(plan.settings.database_url, table)


def _only_changes(way: Callable[[Flask, ServerPlan, socket.socket], None]) -> Callable[..., None]:
    """Tell flask-session to write when something has changed and not, as it does by itself, after every request."""

    def keep(app: Flask, plan: ServerPlan, internal: socket.socket) -> None:
        app.config["SESSION_REFRESH_EACH_REQUEST"] = False
        way(app, plan, internal)

    return keep


def _bare_redis(app: Flask, plan: ServerPlan, internal: socket.socket) -> None:  # noqa: ARG001 - see above
    app.session_interface = BareRedis(plan.settings.redis_url or "")


def _bare_postgresql(app: Flask, plan: ServerPlan, internal: socket.socket) -> None:  # noqa: ARG001 - see above
    url, table = plan.settings.database_url or "", plan.settings.namespace
    app.session_interface = BarePostgreSQL(url, table, unlogged=plan.unlogged)


def _without_log(url: str | None, table: str) -> None:
    with psycopg.connect(url or "") as connection:
        connection.execute(f'ALTER TABLE "{table}" SET UNLOGGED'.encode())


WAYS: dict[str, Callable[[Flask, ServerPlan, socket.socket], None]] = {
    "none": _no_session,
    "local": _ours("sticky"),
    "all-to-all": _ours("all-to-all"),
    "redis": _ours("redis"),
    "database": _ours("database"),
    "flask-session redis": _flask_session_redis,
    "flask-session redis, changes": _only_changes(_flask_session_redis),
    "flask-session sqlalchemy": _flask_session_sqlalchemy,
    "flask-session sqlalchemy, changes": _only_changes(_flask_session_sqlalchemy),
    "bare redis": _bare_redis,
    "bare postgresql": _bare_postgresql,
}
"""How a server can keep its sessions: functions that equip an application."""
