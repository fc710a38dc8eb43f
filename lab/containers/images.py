"""Whether containers can be tested here: `python -m lab.containers.images` says why not, in one line.

Exit status: 0 where an engine answers and the images are there or have been pulled and built; 3 where there is no
engine, or it cannot reach what images are made from; 1 where the project's own images do not build.
"""

from __future__ import annotations

import re
import sys

from lab.containers.compose import COMPOSE_FILE, ROOT, Compose, ComposeFailed, DockerMissing, docker
from lab.containers.env_file import fresh

CANNOT = 3
"""Exit status: not here."""

PULL_SECONDS = 180.0
"""How long an image may take to be pulled."""

_NO_NETWORK = re.compile(
    r"Temporary failure in name resolution|NewConnectionError|ConnectTimeout|Read timed out|Network is unreachable"
    r"|Connection refused|No route to host|no such host|i/o timeout|No matching distribution found"
    r"|CERTIFICATE_VERIFY_FAILED"
)


def official() -> list[str]:
    """Return the public images that the compose file and the Dockerfiles name, in the order in which they do."""
    made_from = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "containers").rglob("Dockerfile"))]
    named = re.findall(r"^FROM (\S+)", "\n".join(made_from), re.MULTILINE)
    named += re.findall(r"^\s+image: ([^\s$]+)$", COMPOSE_FILE.read_text(encoding="utf-8"), re.MULTILINE)
    return list(dict.fromkeys(named))


def get(image: str) -> None:
    """Have an image on this machine: pull it if it is not.

    Raises:
        ComposeFailed: it is not, and cannot be pulled.
    """
    try:
        docker("image", "inspect", image)
    except ComposeFailed:
        docker("pull", "--quiet", image, seconds=PULL_SECONDS)


def main() -> int:
    """Get every image and build the project's own; return the exit status."""
    try:
        compose = Compose("session-lab-images", fresh())
        for image in official():
            get(image)
    except (DockerMissing, ComposeFailed) as error:
        return _say(str(error), CANNOT)
    try:
        compose.build()
    except ComposeFailed as error:
        return _say(str(error), CANNOT if _NO_NETWORK.search(error.output) else 1)
    return 0


def _say(text: str, status: int) -> int:
    print(text)  # noqa: T201
    return status


if __name__ == "__main__":
    sys.exit(main())
