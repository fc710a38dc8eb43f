"""Docker Compose as a program: found, told what to do, and cleaned up after.

`docker compose` (version 2) and `docker-compose` (1.29) both do. Only what both understand is used.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager, suppress
from copy import copy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"

OLDEST = (1, 29)
"""The first `docker-compose` that reads a file without a version and waits for health."""

ANSWER_SECONDS = 60.0
"""How long a question to the engine may take."""

BUILD_SECONDS = 1800.0
"""How long images may take to be pulled and built."""

HEALTHY_SECONDS = 300.0
"""How long started containers may take until they are healthy."""


LATE_SECONDS = 5.0
"""How long after its caller's death an engine may still make what it was asked for."""


class DockerMissing(LabError):
    """There is no container engine to be had, or no Compose; the text says how to get it."""


class ComposeFailed(LabError):
    """Docker or Compose refused; the text ends with what it said.

    Attributes:
        output: all that it said.
    """

    def __init__(self, text: str, output: str = "") -> None:
        super().__init__(text)
        self.output = output


@cache
def find_compose() -> tuple[str, ...]:
    """Return the words that call Compose, having seen that an engine answers.

    Raises:
        DockerMissing: no `docker`, no engine that answers, or no Compose.
    """
    if shutil.which("docker") is None:
        raise DockerMissing("no `docker` on the PATH: install Docker Engine and Docker Compose, and call again")
    answer = _call(["docker", "info", "--format", "{{.ServerVersion}}"])
    if answer.returncode or not answer.stdout.strip():
        raise DockerMissing(
            f"Docker's engine does not answer ({_complaint(answer.stderr)}). Start it, or let this user talk to it, "
            "and try `docker info`."
        )
    if _call(["docker", "compose", "version"]).returncode == 0:
        return ("docker", "compose")
    if shutil.which("docker-compose") is None:
        raise DockerMissing(
            "Docker is there, Compose is not: install Docker's Compose plugin (`docker compose version`)"
        )
    version = _call(["docker-compose", "version", "--short"]).stdout.strip()
    if _numbers(version) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise DockerMissing(f"docker-compose {version} is too old: expected {wanted}, or `docker compose`")
    return ("docker-compose",)


def docker(*words: str, seconds: float = ANSWER_SECONDS) -> str:
    """Run a command of `docker` and return what it printed.

    Raises:
        ComposeFailed: it failed, or took too long.
    """
    return _said(["docker", *words], _call(["docker", *words], seconds=seconds))


class Compose:
    """One project of Compose: the containers, networks and volumes that bear its name.

    Args:
        project: its name: lower-case letters, digits, `-`, `_`.
        environment: variables for the compose files, before those of this process and of `.env`.
        overlays: further compose files, such as `containers/measure.yml`, relative to the project's folder.
        profiles: optional services to take along.

    Raises:
        DockerMissing: see `find_compose`.
    """

    def __init__(
        self,
        project: str,
        environment: Mapping[str, str] | None = None,
        *,
        overlays: Sequence[str] = (),
        profiles: Sequence[str] = (),
    ) -> None:
        self.project = project
        files = [COMPOSE_FILE, *(ROOT / overlay for overlay in overlays)]
        self._options = [
            *("--project-directory", str(ROOT)),
            *(word for file in files for word in ("--file", str(file))),
            *(word for profile in profiles for word in ("--profile", profile)),
        ]
        self._command = [*find_compose(), "--project-name", project, *self._options]
        self._environment = os.environ | dict(environment or {})
        self._hold: tuple[int, ...] = ()  # the lab's end of the guard's pipe

    def told(self, environment: Mapping[str, str]) -> Compose:
        """Return the same project with other variables; what guards this one guards that one, too."""
        other = copy(self)
        vars(other)["_environment"] = os.environ | dict(environment)
        return other

    def run(self, *words: str, seconds: float = ANSWER_SECONDS, apart: bool = False) -> str:
        """Run a command of Compose and return what it printed.

        Args:
            words: the command, such as `ps`, `-q`.
            seconds: how long it may take.
            apart: keep it out of reach of a Ctrl-C on the terminal.

        Raises:
            ComposeFailed: it failed, or took too long; the text ends with what it said.
        """
        command = [*self._command, *words]
        done = _call(command, seconds=seconds, environment=self._environment, apart=apart, hold=self._hold)
        return _said(command, done)

    def build(self) -> None:
        """Build the lab's own images; the others are pulled when they are first needed.

        Raises:
            ComposeFailed: one cannot be built.
        """
        # Compose 2 writes the project's name into an image: under this one's, each run would leave an image of its own.
        command = [*find_compose(), "--project-name", "session-lab", *self._options, "build"]
        _said(command, _call(command, seconds=BUILD_SECONDS, environment=self._environment, hold=self._hold))

    def up(self, *services: str, scale: Mapping[str, int] | None = None, wait: bool = True) -> None:
        """Start services, all of them if none is named, and wait until they are healthy.

        Args:
            services: which; what they depend on comes along.
            scale: number of containers of a service, where not as in the file.
            wait: whether to wait for health.

        Raises:
            ComposeFailed: one does not start, or is not healthy in time.
        """
        counts = [word for name, number in (scale or {}).items() for word in ("--scale", f"{name}={number}")]
        self.run("up", "--detach", *counts, *services, seconds=BUILD_SECONDS)
        if wait:
            self.wait_until_healthy()

    def scale(self, service: str, number: int) -> None:
        """Bring a service to so many containers, leaving those that run as they are; return when all are healthy."""
        self.run("up", "--detach", "--no-recreate", "--no-deps", "--scale", f"{service}={number}", service)
        self.wait_until_healthy(service)

    def down(self) -> None:
        """Remove the project's containers, networks and volumes."""
        # With every profile, or a container of one would hold the network.
        self.run("down", "--volumes", "--remove-orphans", "--timeout", "5", seconds=300.0, apart=True)

    def containers(self, *services: str, all_states: bool = False) -> list[str]:
        """Return the ids of containers that run, of all services if none is named; with the stopped ones if asked."""
        labels = [f"label=com.docker.compose.project={self.project}"]
        options = [word for label in labels for word in ("--filter", label)] + (["--all"] if all_states else [])
        listed = docker("ps", "--no-trunc", "--quiet", *options).split()
        if not services or not listed:
            return listed
        facts = self.inspect(*listed)
        of = {fact["Id"]: fact["Config"]["Labels"]["com.docker.compose.service"] for fact in facts}
        number = {fact["Id"]: int(fact["Config"]["Labels"]["com.docker.compose.container-number"]) for fact in facts}
        chosen = [container for container in of if of[container] in services]
        return sorted(chosen, key=lambda container: (services.index(of[container]), number[container]))

    def left(self) -> str:
        """Return what there is of the project, counted, such as `2 containers, 1 volume`; empty if nothing."""
        label = f"label=com.docker.compose.project={self.project}"
        kinds = {"container": ("ps", "--all"), "volume": ("volume", "ls")}
        found = {kind: len(docker(*words, "--quiet", "--filter", label).split()) for kind, words in kinds.items()}
        return ", ".join(f"{number} {kind}{'s' * (number != 1)}" for kind, number in found.items() if number)

    def inspect(self, *containers: str) -> list[dict[str, Any]]:
        """Return what the engine knows of containers, as `docker inspect` tells it; one that is gone is left out."""
        command = ["docker", "inspect", "--type", "container", *containers]
        answer = _call(command)
        if answer.returncode and "No such" not in answer.stderr:
            _said(command, answer)
        found: list[dict[str, Any]] = json.loads(answer.stdout or "[]")
        return found

    def port(self, service: str, private: int, number: int = 1) -> int:
        """Return the port on 127.0.0.1 under which a container's port is published.

        Args:
            service: which one.
            private: the port within the container.
            number: which container of the service, from 1 on in their order.

        Raises:
            ComposeFailed: there is no such container, or it does not publish the port.
        """
        containers = self.containers(service)
        if not 0 < number <= len(containers):
            raise ComposeFailed(f"{self.project}: {service} has {len(containers)} containers, so none number {number}")
        (fact,) = self.inspect(containers[number - 1])
        published = fact["NetworkSettings"]["Ports"].get(f"{private}/tcp")
        if not published:
            raise ComposeFailed(f"{self.project}: {service} does not publish port {private}")
        return int(published[0]["HostPort"])

    def execute(self, container: str, *words: str) -> str:
        """Run a command in a container and return what it printed.

        Raises:
            ComposeFailed: it failed.
        """
        return docker("exec", container, *words)

    def logs(self, *services: str, lines: int = 20) -> str:
        """Return the last lines of services' logs, of each container so many."""
        return self.run("logs", "--no-color", "--tail", str(lines), *services)

    def wait_until_healthy(self, *services: str, seconds: float = HEALTHY_SECONDS) -> None:
        """Wait until every container that runs is healthy; one without a health check is when it runs.

        Raises:
            ComposeFailed: one ended, or time is up; the text names them.
        """
        deadline = time.monotonic() + seconds
        while unfit := self._unfit(services):
            if time.monotonic() > deadline:
                names = ", ".join(f"{name} ({state})" for name, state in sorted(unfit.items()))
                raise ComposeFailed(f"{self.project}: not healthy within {seconds:.0f} s: {names}")
            time.sleep(0.2)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Take everything down when the context ends, however it ends: also when this process is killed."""
        # The guard waits for a word; a lab that was killed says none, and the pipe ends. An `up` that outlives the lab
        # holds the pipe, too: there is no taking down before it has ended.
        # But one of Compose 2 dies when nobody reads what it says, and what it has asked the engine for comes all the
        # same: so once more, a little later.
        script = f'read -r word || {{ "$@"; sleep {LATE_SECONDS:g}; exec "$@"; }} >/dev/null 2>&1'
        down = [*self._command, "down", "--volumes", "--remove-orphans", "--timeout", "5"]
        with subprocess.Popen(
            ["sh", "-c", script, "guard", *down],
            stdin=subprocess.PIPE,
            env=self._environment,
            start_new_session=True,
            text=True,
        ) as guard:
            self._hold = (guard.stdin.fileno(),) if guard.stdin else ()
            try:
                yield
            finally:
                _uninterrupted(self.down)
                self._hold = ()
                with suppress(BrokenPipeError):
                    guard.communicate("done\n")

    def _unfit(self, services: Sequence[str]) -> dict[str, str]:
        """Return the containers that are not healthy, by name, and what they are instead."""
        listed = self.containers(*services, all_states=True)
        states = {fact["Name"].lstrip("/"): fact["State"] for fact in (self.inspect(*listed) if listed else [])}
        found = {name: state.get("Health", {}).get("Status", state["Status"]) for name, state in states.items()}
        if not found:
            raise ComposeFailed(f"{self.project}: no containers of {', '.join(services) or 'any service'}")
        return {name: state for name, state in found.items() if state not in ("healthy", "running")}


def _uninterrupted(task: Callable[[], None]) -> None:
    """Do a task to its end: a Ctrl-C that comes meanwhile is heard afterwards."""
    try:
        task()
    except KeyboardInterrupt:
        task()
        raise


def _call(
    command: Sequence[str],
    *,
    seconds: float = ANSWER_SECONDS,
    environment: Mapping[str, str] | None = None,
    apart: bool = False,
    hold: tuple[int, ...] = (),
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            start_new_session=apart,
            pass_fds=hold,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, -1, "", f"no end within {seconds:.0f} s")
    except OSError as error:
        raise DockerMissing(f"{command[0]} cannot be started: {error.strerror}") from error


def _said(command: Sequence[str], done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode:
        what = " ".join(word for word in command if not word.startswith("/"))[:120]
        raise ComposeFailed(f"`{what}` failed: {_complaint(done.stderr or done.stdout)}", done.stdout + done.stderr)
    return done.stdout


def _complaint(text: str) -> str:
    """Return the line that tells most: docker-compose 1.29 ends with one that says only that there were errors."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR: ", "docker: "))]
    return (errors or lines[-1:] or ["it said nothing"])[0]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
