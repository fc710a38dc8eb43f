"""A shop that runs already: whether it is one, before any load is sent there."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib.metadata import version
from urllib.parse import urlsplit

import requests

from lab.errors import LabError
from loadtests.client import ArmTarget

ARM = "target"
"""The arm of a shop whose strategy nobody has named."""

ANSWER_SECONDS = 5.0


def target_at(address: str) -> ArmTarget:
    """Return where the shoppers go, once a shop of this lab has answered there.

    Args:
        address: `http://host:port` of a balancer.

    Raises:
        LabError: it is no address, nobody answers, or what answers is no shop of this lab.
    """
    url = _base(address)
    if not _is_a_shop(url):
        raise LabError(
            f"what answers at {url} is no shop of this lab, and the load is for nobody else: "
            "expected a cart from /api/cart. Start one with `make up`, or leave TARGET out."
        )
    return ArmTarget(arm=ARM, strategy=ARM, url=url, server_urls={}, cookie_name="session")


def _base(address: str) -> str:
    with suppress(ValueError):  # of a port that is no number, or half an IPv6 address
        parts = urlsplit(address if "//" in address else f"http://{address}")
        plain = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        if plain and not parts.path.strip("/") and not parts.query:
            return f"{parts.scheme}://{parts.netloc}"
    raise LabError(f"expected the address of a shop, such as http://127.0.0.1:8085, got {address!r}.")


def own_versions() -> dict[str, str | None]:
    """Return the versions of what is known where the shop is somebody else's: of the load alone."""
    return {"python": platform.python_version(), "locust": version("locust")}


def _is_a_shop(url: str) -> bool:
    try:
        with requests.Session() as http:
            http.trust_env = False
            answer = http.get(f"{url}/api/cart", timeout=ANSWER_SECONDS, allow_redirects=False)
    except (requests.RequestException, ValueError) as error:
        raise LabError(
            f"nobody answers at {url} ({type(error).__name__}): start a shop with `make up`, or correct TARGET."
        ) from error
    try:
        cart = answer.json()
    except ValueError:
        return False
    return answer.ok and isinstance(cart, dict) and {"user", "cart"} <= cart.keys()
