"""From what `docker compose config` prints to what `docker stack deploy` reads.

Both call it a compose file, but `docker stack deploy` stayed with version 3 of the format: it refuses what came later,
such as `depends_on` with a condition, which Swarm does not keep anyway. The text is taken as Compose writes it, in
blocks by indentation, one key a line; nothing is parsed that need not be, so that no YAML library is needed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

VERSION = "3.9"
"""Of the format: what Docker reads from 20.10 on, the first whose services can limit their processes."""

LIMITS = {"cpus": "cpus", "mem_limit": "memory", "pids_limit": "pids"}
"""What a service may use at most: in Compose's words, and in those of `deploy.resources.limits`, where Swarm looks."""

REFUSED = frozenset(
    {"build", "container_name", "depends_on", "profiles", "pull_policy", "restart", "scale", "tmpfs", *LIMITS}
)
"""What stands in a service and means nothing to Swarm: it starts all at once, restarts by `deploy.restart_policy`, and
builds no images. `security_opt` is left in, for Docker to say that it ignores it."""

_COMMANDS = frozenset({"command", "entrypoint"})
_PORT = re.compile(r"(?:[\d.]+:)?(?P<published>\d+):(?P<target>\d+)(?:/tcp)?")
_PUBLISHED = "    - published: {port.published}\n      target: {port.target}\n      mode: host"
_NUMBER = re.compile(r"(?P<key>\s*cpus: )(?P<value>[\d.]+)")


class Port(NamedTuple):
    """A port that a service publishes.

    Attributes:
        service: whose.
        published: on the machine.
        target: in the container.
    """

    service: str
    published: int
    target: int


@dataclass(frozen=True)
class StackFile:
    """A file for `docker stack deploy`.

    Attributes:
        text: it.
        ports: what the services publish; not in the text unless asked for.
        images: service to image.
        built: the images among them that are the project's own.
    """

    text: str
    ports: tuple[Port, ...]
    images: dict[str, str]
    built: tuple[str, ...]


@dataclass
class _Block:
    """A line with those that are indented beneath it."""

    line: str
    below: list[_Block] = field(default_factory=list)

    @property
    def key(self) -> str:
        """What stands before the colon."""
        return self.line.strip().removeprefix("- ").split(":")[0].strip("\"'")

    @property
    def value(self) -> str:
        """What stands behind it."""
        return self.line.partition(": ")[2].strip().strip("\"'")

    def find(self, *keys: str) -> _Block | None:
        """Return a block beneath, by its keys; None if it is not there."""
        for below in self.below:
            if below.key == keys[0]:
                return below if len(keys) == 1 else below.find(*keys[1:])
        return None

    def lines(self) -> Iterator[str]:
        """Give the text again."""
        yield self.line
        for below in self.below:
            yield from below.lines()


def for_swarm(config: str, *, profiles: Collection[str] = (), publish: bool = False) -> StackFile:
    """Make a stack's file of a compose file.

    Args:
        config: what `docker compose config` printed.
        profiles: services that belong to others of them are left out.
        publish: whether ports stay published, on the machine that runs the service, to everybody who reaches it: Swarm
            cannot publish on 127.0.0.1.

    Raises:
        LabError: there are no services in it.
    """
    top = {block.key: block for block in _blocks(config)}
    if "services" not in top or not top["services"].below:
        raise LabError("`docker compose config` printed no services, so there is nothing to deploy")
    services = [service for service in top["services"].below if _is_chosen(service, profiles)]
    ports = tuple(port for service in services for port in _ports(service))
    images = {service.key: image.value for service in services if (image := service.find("image"))}
    built = tuple(sorted({images[service.key] for service in services if service.find("build")}))
    top["services"].below = services
    for service in services:
        _move_limits(service)
        _move_tmpfs(service)
        kept = (_readable(block) for block in service.below if _is_kept(block, publish=publish))
        service.below = [block for block in kept if block]
    for name in top.keys() & {"networks", "volumes"}:
        for block in top[name].below:
            block.below = [one for one in block.below if one.key != "name"]  # the stack's name goes before its own
    parts = (top[name] for name in ("services", "networks", "volumes", "configs", "secrets") if name in top)
    text = "\n".join(line for block in parts for line in block.lines())
    return StackFile(f'version: "{VERSION}"\n{text}\n', ports, images, built)


def _blocks(text: str) -> list[_Block]:
    """Sort lines beneath each other by their indentation; a list's items belong to the key at the same depth."""
    root = _Block("")
    path: list[tuple[float, _Block]] = [(-1, root)]
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip()) + 0.5 * line.lstrip().startswith("- ")
        if not line.strip():
            continue
        while path[-1][0] >= depth:
            path.pop()
        block = _Block(line)
        path[-1][1].below.append(block)
        path.append((depth, block))
    return root.below


def _is_chosen(service: _Block, profiles: Collection[str]) -> bool:
    listed = service.find("profiles")
    return listed is None or any(one.line.strip().removeprefix("- ") in profiles for one in listed.below)


def _is_kept(block: _Block, *, publish: bool) -> bool:
    return block.key not in REFUSED and (publish or block.key != "ports")


def _ports(service: _Block) -> Iterable[Port]:
    """Read ports as either Compose writes them: `- 127.0.0.1:8081:8081/tcp`, or `published` and `target` apart."""
    listed = service.find("ports")
    for item in listed.below if listed else ():
        short = _PORT.fullmatch(item.line.strip().removeprefix("- ").strip("\"'"))
        long = {block.key: block.value for block in (item, *item.below)}
        if short:
            yield Port(service.key, int(short["published"]), int(short["target"]))
        elif long.get("published", "").isdigit():
            yield Port(service.key, int(long["published"]), int(long["target"]))


def _move_limits(service: _Block) -> None:
    """Put limits where version 3 has them, as the text that it wants of memory and processors."""
    given = {word: block.value for key, word in LIMITS.items() if (block := service.find(key))}
    if not given:
        return
    place = service
    for depth, key in enumerate(("deploy", "resources", "limits"), start=2):
        place = _beneath(place, key, depth)
    indent = "  " * 5
    place.below += [
        _Block(f"{indent}{word}: {value}" if word == "pids" else f'{indent}{word}: "{value}"')
        for word, value in given.items()
    ]


def _beneath(block: _Block, key: str, depth: int) -> _Block:
    """Return the block of this key beneath another one, made if it is not there."""
    found = block.find(key)
    if found is None:
        found = _Block(f"{'  ' * depth}{key}:")
        block.below.append(found)
    return found


def _move_tmpfs(service: _Block) -> None:
    """Mount what is in memory as a volume of that type: Swarm passes over `tmpfs` without a word."""
    mounted = service.find("tmpfs")
    if mounted is None:
        return
    volumes = service.find("volumes")
    if volumes is None:
        volumes = _Block("    volumes:")
        service.below.append(volumes)
    for item in mounted.below:
        target = item.line.strip().removeprefix("- ").split(":")[0]
        volumes.below.append(_Block(f"{_item_indent(volumes)}- type: tmpfs\n{_item_indent(volumes)}  target: {target}"))


def _item_indent(listed: _Block) -> str:
    """Return how far a list's items are indented: Compose 2 does it, 1.29 does not."""
    first = listed.below[0].line if listed.below else "    "
    return first[: len(first) - len(first.lstrip())]


def _readable(block: _Block) -> _Block | None:
    """Write numbers and ports within a service as version 3 wants them; None for what it does not know."""
    if block.key == "ports":
        ports = _ports(_Block("", [block]))
        return _Block(
            block.line,
            [_Block(_PUBLISHED.format(port=port)) for port in ports],
        )
    number = _NUMBER.fullmatch(block.line)
    line = f'{number["key"]}"{number["value"]}"' if number else block.line
    below = [one for one in map(_readable, block.below) if one and one.key != "create_host_path"]
    emptied = bool(block.below) and not below
    return None if emptied or (block.key in _COMMANDS and block.value == "null") else _Block(line, below)
