"""The compose file as a stack on a swarm: `python3 -m lab.containers.swarm deploy`, and `remove`.

Run on a manager of the swarm. Stores, balancer and their volumes have a home: the machine that the stack was first
deployed from; web servers go wherever there is room. Runs on whatever Python a server with Docker has: standard library
only.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from hashlib import sha256
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any

from lab.containers.compose import Compose, docker
from lab.containers.stack_file import StackFile, for_swarm
from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OVERLAY = "containers/swarm.yml"

HOME = "session-lab-home"
"""The label of the machine that has the volumes, and this folder."""

SECONDS = 300.0
"""How long all services may take until they run and are healthy, or until they are gone."""

_MARK = "session-lab.gate"
"""The label that tells how a gate was started, so that one that is right stays, with the connections through it."""

_GATE_DNS = "resolver 127.0.0.11 valid=2s ipv6=off; proxy_connect_timeout 2s; proxy_timeout 1h;\n"
_GATE_SERVER = (
    "upstream p{port.target} {{ zone p{port.target} 64k; server {port.service}:{port.target} resolve; }}\n"
    "server {{ listen {port.target}; proxy_pass p{port.target}; }}\n"
)

GATE_SECONDS = 60.0
"""How long the gate may take until it hands connections on."""

USAGE = "usage: python3 -m lab.containers.swarm deploy|remove"


class SwarmFailed(LabError):
    """The swarm is not as it must be, or the stack did not come up; the text says what to do."""


class Stack:
    """One stack.

    Args:
        name: begins the names of its services, networks and volumes.
        environment: variables for the compose files, before those of this process and of `.env`.
        profiles: optional services to take along.
        publish: whether everybody who reaches the stack's home reaches the balancer.
    """

    def __init__(
        self,
        name: str,
        environment: Mapping[str, str] | None = None,
        *,
        profiles: Sequence[str] = (),
        publish: bool = False,
    ) -> None:
        self.name = name
        self._compose = Compose(name, environment, overlays=[OVERLAY], profiles=profiles)
        self._profiles = profiles
        self._publish = publish

    def deploy(self) -> list[int]:
        """Deploy the stack, or bring a running one up to date; return when all its services run and are healthy.

        Returns:
            The ports under which the balancer is published, in the compose file's order.

        Raises:
            LabError: this is no manager of a swarm, another machine is the stack's home, or it does not come up.
        """
        self._settle_home()
        stack = for_swarm(self._compose.run("config"), profiles=self._profiles, publish=self._publish)
        self._provide(stack)
        with tempfile.NamedTemporaryFile("w", suffix=".yml", encoding="utf-8") as file:  # secrets are in it: mode 0600
            file.write(stack.text)
            file.flush()
            options = ["--compose-file", file.name, "--prune", "--resolve-image", "never"]
            docker("stack", "deploy", *options, self.name, seconds=SECONDS)
        self.wait_until_running()
        return [port.published for port in stack.ports] if self._publish else self._open_gate(stack)

    def remove(self, *, volumes: bool = False) -> None:
        """Remove the stack, and with `volumes` on this machine what it has stored; one that is not there is no error.

        Raises:
            LabError: Docker refuses, or something of it is still there after a long time.
        """
        docker("rm", "--force", self._gate)
        docker("stack", "rm", self.name)
        deadline = time.monotonic() + SECONDS
        while left := [*self._of_stack("ps", "--all"), *self._of_stack("network", "ls")]:
            if time.monotonic() > deadline:
                raise SwarmFailed(f"stack {self.name}: still there after {SECONDS:.0f} s: {', '.join(left)}")
            time.sleep(0.5)
        for volume in self._of_stack("volume", "ls") if volumes else ():
            docker("volume", "rm", volume)

    def wait_until_running(self) -> None:
        """Wait until every service has all its tasks running and healthy, and no update is under way.

        Raises:
            SwarmFailed: an update was paused or rolled back, or time is up; the text says what the tasks say.
        """
        deadline = time.monotonic() + SECONDS
        while missing := self._missing():
            if time.monotonic() > deadline:
                names = ", ".join(f"{name} ({state})" for name, state in sorted(missing.items()))
                raise SwarmFailed(f"stack {self.name}: not running after {SECONDS:.0f} s: {names}. {self._says()}")
            time.sleep(0.5)

    def _of_stack(self, *words: str) -> list[str]:
        """List things of the stack on this machine."""
        return docker(*words, "--quiet", "--filter", f"label=com.docker.stack.namespace={self.name}").split()

    @property
    def _gate(self) -> str:
        return f"{self.name}_gate"

    def _settle_home(self) -> None:
        """Make this machine the stack's home, where the swarm has none yet.

        Raises:
            SwarmFailed: this is no manager, or another machine is the home.
        """
        swarm = json.loads(docker("info", "--format", "{{json .Swarm}}"))
        if swarm["LocalNodeState"] != "active" or not swarm["ControlAvailable"]:
            state = swarm["LocalNodeState"] if swarm["LocalNodeState"] != "active" else "a worker"
            raise SwarmFailed(
                f"a stack is deployed from a manager of a swarm; expected an active one, got: {state}. "
                "`docker swarm init` makes this machine one (docs/deploy.md)."
            )
        homes = [node for node in _nodes() if HOME in node["Spec"]["Labels"]]
        if not homes:
            docker("node", "update", "--label-add", f"{HOME}=true", swarm["NodeID"])
        elif swarm["NodeID"] not in [node["ID"] for node in homes]:
            raise SwarmFailed(
                f"the volumes of the stack are on {homes[0]['Description']['Hostname']}: deploy from there "
                f"(or move them, and the label {HOME} with them)"
            )

    def _provide(self, stack: StackFile) -> None:
        """Build the project's own images, and bring them where the other machines get them from.

        Raises:
            SwarmFailed: there are other machines, and an image's name tells no registry.
        """
        local = [image for image in stack.built if "/" not in image]
        others = len(_nodes()) - 1
        if local and others:
            raise SwarmFailed(
                f"the {others} other machines of the swarm cannot get {local[0]} from this one: set LAB_IMAGE and "
                "BALANCER_IMAGE to names in a registry, such as registry.example.org/session-lab:1 (docs/deploy.md)"
            )
        self._compose.build()
        for image in stack.built:
            if "/" in image:
                docker("push", image, seconds=SECONDS)

    def _missing(self) -> dict[str, str]:
        """Return the services that are not as they should be, and how far they are."""
        label = f"label=com.docker.stack.namespace={self.name}"
        rows = docker("service", "ls", "--filter", label, "--format", "{{.Name}} {{.Replicas}}").splitlines()
        counts = dict(row.split(" ")[:2] for row in rows)
        missing = {name: count for name, count in counts.items() if len(set(count.split("/"))) > 1}
        if not counts:
            raise SwarmFailed(f"stack {self.name}: there are no services")
        for service in json.loads(docker("service", "inspect", *counts)):
            state = (service.get("UpdateStatus") or {}).get("State", "completed")
            if state in ("paused", "rollback_completed", "rollback_paused"):
                name = service["Spec"]["Name"]
                raise SwarmFailed(f"{name}: the update went wrong ({state}). {self._says(name)}")
            if state != "completed":
                missing[service["Spec"]["Name"]] = state
        return missing

    def _says(self, *services: str) -> str:
        """Return what tasks that failed say, in a line."""
        options = ["--no-trunc", "--format", "{{.Name}}: {{.Error}}"]
        rows = docker("service", "ps", *options, *services) if services else docker("stack", "ps", *options, self.name)
        errors = dict.fromkeys(row for row in rows.splitlines() if not row.endswith(": "))
        return "; ".join(errors) or "No task says why; `docker stack ps` and `docker service logs` may."

    def _open_gate(self, stack: StackFile) -> list[int]:
        """Publish the balancer on 127.0.0.1, which Swarm cannot: a container of its own hands connections on."""
        servers = "".join(_GATE_SERVER.format(port=port) for port in stack.ports)
        published = [word for port in stack.ports for word in ("-p", f"127.0.0.1:{port.published}:{port.target}")]
        config = f"pid /tmp/nginx.pid; error_log stderr warn; events {{}} stream {{\n{_GATE_DNS}{servers}}}\n"
        mark = sha256(f"{config}{published}{stack.images[stack.ports[0].service]}".encode()).hexdigest()[:16]
        if not docker("ps", "--quiet", "--filter", f"name=^{self._gate}$", "--filter", f"label={_MARK}={mark}").strip():
            docker("rm", "--force", self._gate)
            self._start_gate(stack, config, published, mark)
        (gate,) = json.loads(docker("inspect", self._gate))
        bound = gate["NetworkSettings"]["Ports"]
        ports = [int(bound[f"{port.target}/tcp"][0]["HostPort"]) for port in stack.ports]
        deadline = time.monotonic() + GATE_SECONDS
        while not all(map(_answers, ports)):
            if time.monotonic() > deadline:
                said = docker("logs", "--tail", "1", self._gate).strip() or "it says nothing"
                raise SwarmFailed(f"{self._gate} does not hand connections on after {GATE_SECONDS:.0f} s: {said}")
            time.sleep(0.2)
        return ports

    def _start_gate(self, stack: StackFile, config: str, published: Sequence[str], mark: str) -> None:
        docker(
            *("run", "--detach", "--name", self._gate, "--network", f"{self.name}_outside", *published),
            *("--restart", "unless-stopped", "--read-only", "--tmpfs", "/tmp"),  # noqa: S108 - its own
            *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", "64m"),
            *("--label", f"{_MARK}={mark}", "--env", f"GATE={config}", "--entrypoint", "sh"),
            *(
                stack.images[stack.ports[0].service],
                "-c",
                'printf %s "$GATE" > /tmp/gate.conf && exec nginx -c /tmp/gate.conf -g "daemon off;"',
            ),
        )


def _answers(port: int) -> bool:
    """Whether a shop, or the balancer before it, answers a request on this machine."""
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/")
        connection.getresponse()
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
    return True


def _nodes() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = json.loads(docker("node", "inspect", *docker("node", "ls", "--quiet").split()))
    return nodes


def main(arguments: Sequence[str]) -> int:
    """Deploy or remove the stack that the environment names; return the exit status."""
    if arguments not in (["deploy"], ["remove"]):
        print(USAGE, file=sys.stderr)  # noqa: T201
        return 2
    asked = {name: os.environ.get(name, "") for name in ("STACK", "PUBLISH", "VOLUMES")}
    given = {name: value not in ("", "0", "no") for name, value in asked.items()}
    try:
        stack = Stack(asked["STACK"] or "lab", publish=given["PUBLISH"])
        if arguments == ["deploy"]:
            _tell(stack.deploy(), publish=given["PUBLISH"])
        else:
            stack.remove(volumes=given["VOLUMES"])
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; the swarm goes on with what it was told", file=sys.stderr)  # noqa: T201
        return 130
    return 0


def _tell(ports: Sequence[int], *, publish: bool) -> None:
    where = "all addresses of this machine, to everybody who reaches it" if publish else "127.0.0.1 of this machine"
    print(f"All services run. Published on {where}: ports {', '.join(map(str, ports))}.")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
