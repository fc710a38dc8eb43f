"""Real servers, balancers and stores: what the logs tell, and how soon a logout holds on every server."""

from __future__ import annotations

import contextlib
import socket
import time
from urllib.parse import unquote, urlsplit

import pytest
import requests

from lab.cluster import ClusterSpec, Lab
from strategies import STRATEGIES

SPECS = [ClusterSpec(name=name, strategy=name, servers=2, timeout_seconds=10.0) for name in STRATEGIES]
SPECS.append(
    ClusterSpec(name="all-to-all sync", strategy="all-to-all", servers=2, replication="sync", timeout_seconds=10.0)
)


class Browser:
    """A shopper who remembers every cookie that was ever handed out."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.http = requests.Session()
        self.secrets = set()

    def send(self, method, path, **kwargs):
        """Send a request and note what the answer gives."""
        answer = self.http.request(method, kwargs.pop("url", self.cluster.url) + path, timeout=10, **kwargs)
        for name, value in answer.cookies.items():
            if name.startswith(self.cluster.cookie_name):
                self.secrets |= {unquote(value), *value.split("."), *unquote(value).split(".")}
        return answer

    @property
    def cookie(self):
        """The session cookie as it is now."""
        return self.http.cookies.get(self.cluster.cookie_name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the run's folder."""
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def lab(folder):
    """Return a lab with a cluster of every kind."""
    with Lab(folder) as lab:
        yield lab


@pytest.fixture(scope="module")
def clusters(lab):
    """Return the clusters, by name."""
    return {cluster.spec.name: cluster for cluster in lab.start(*SPECS)}


def is_known(cluster, server, cookie):
    """Return whether a server, asked past the balancer, shows a user to whoever has this cookie."""
    answer = requests.get(f"{server.url}/api/cart", cookies={cluster.cookie_name: cookie}, timeout=5)
    return answer.json()["user"] is not None


def test_logout_holds_on_every_server(clusters):
    """Once a logout is answered the old cookie opens nothing on any server."""
    for name in clusters.keys() - {"isolated"}:  # there, the balancer would not find the session to log out
        log_in_and_out(name, clusters[name])


def log_in_and_out(name, cluster):
    """Log in, be known wherever the strategy says, log out, and be known nowhere."""
    browser = Browser(cluster)
    browser.send("POST", "/api/cart", json={"token": "a", "product": 1})
    browser.send("POST", "/api/login", json={"user": "Ada"})
    cookie = browser.cookie
    holders = [server for server in cluster.servers if name != "sticky" or is_known(cluster, server, cookie)]
    wait_until(lambda: all(is_known(cluster, server, cookie) for server in holders))
    browser.send("POST", "/api/logout")
    assert not any(is_known(cluster, server, cookie) for server in cluster.servers)
    assert browser.cookie is None


def wait_until(condition, seconds=20.0):
    """Return when the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def shop_and_err(browser):
    """Use the shop as a shopper does, and in every way that ends in an error; return the statuses seen."""
    seen = []

    def send(*arguments, **kwargs):
        seen.append(browser.send(*arguments, **kwargs).status_code)

    name = browser.cluster.cookie_name
    send("POST", "/api/cart", json={"token": "a", "product": 1})
    send("GET", "/cart")
    send("POST", "/api/login", json={"user": "Ada"})
    genuine = browser.cookie
    send("GET", "/api/nothing")
    send("POST", "/api/cart", data=b"{")
    send("POST", "/api/cart", json={"token": "x", "product": 999_999})
    send("POST", "/api/cart", data=b"x" * 100_000)
    send("GET", "/peers/state")
    for cookie in (genuine[:-1], genuine + "A", genuine * 100, "A" + genuine[1:]):
        forged = requests.get(f"{browser.cluster.url}/cart", headers={"Cookie": f"{name}={cookie}"}, timeout=5)
        seen.append(forged.status_code)
    send("POST", "/api/logout")
    late = requests.post(
        f"{browser.cluster.url}/api/visit",
        json={"page": "cart", "seconds": 1},
        headers={"Cookie": f"{name}={genuine}"},
        timeout=5,
    )
    seen.append(late.status_code)
    send("POST", "/api/cart", json={"token": "b", "product": 2})
    return seen


NASTY_COOKIES = (
    b"\xff\xfe\x80",
    b"\x00",
    b"\x01\x1f\x7f",
    b"=;=;;,==",
    b'"\\"\\073"',
    b"%00%0d%0aSet-Cookie: x=y",
    b"a" * 7_000,
    b"a" * 20_000,
    b"../../etc/passwd",
    b"' OR 1=1 --",
    b"{{7*7}}${jndi:ldap://x}",
)


def send_raw(url, cookie):
    """Send a Cookie header byte for byte; return the status of the answer."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        head = b"GET /api/cart HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nCookie: "
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who has read enough need not read the rest
            connection.sendall(head + cookie + b"\r\n\r\n")
        return int(connection.makefile("rb").readline().split()[1])


def test_raw_cookies(clusters):
    """Whatever bytes come as a cookie, balancer and servers answer 200 or refuse them, and no session begins."""
    for cluster in (clusters["redis"], clusters["all-to-all"]):
        before = {name: set(census.handles) for name, census in cluster.census().items()}
        name = cluster.cookie_name.encode()
        for value in NASTY_COOKIES:
            for cookie in (name + b"=" + value, name + b"_clock=" + value, value):
                assert send_raw(cluster.url, cookie) in (200, 400)
                assert send_raw(cluster.servers[0].url, cookie) in (200, 400, 431)
        assert {name: set(census.handles) for name, census in cluster.census().items()} == before
        assert all(server.alive for server in cluster.servers)


def test_no_log_names_a_session(lab, clusters, folder):
    """No log of any server, balancer or engine has a handle, a secret or a cookie, whatever went wrong."""
    browsers = [Browser(cluster) for cluster in clusters.values()]
    for browser in browsers:
        assert {200, 400, 404, 413} <= set(shop_and_err(browser))
    lab.redis.kill()
    assert by_name(browsers, "redis").send("GET", "/api/cart").status_code == 503
    lab.redis.restart()
    lab.postgresql.kill()
    assert by_name(browsers, "database").send("GET", "/api/cart").status_code == 503
    lab.postgresql.restart()
    for name in ("all-to-all", "all-to-all sync", "sticky"):
        clusters[name].kill("web-2")
        for _ in range(3):
            by_name(browsers, name).send("POST", "/api/cart", json={"token": "c", "product": 3})
        clusters[name].restart("web-2")
    needles = {secret for browser in browsers for secret in browser.secrets if len(secret) >= 20}
    assert len(needles) >= 4 * 2 * len(browsers)
    for cluster in clusters.values():
        cluster.balancer.flush()
    logs = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    kinds = ("nginx", "postgres", "redis", "access", "-web-1.log")
    assert not [kind for kind in kinds if not any(kind in str(path) and text for path, text in logs.items())]
    assert any(b"session store:" in text for text in logs.values())
    assert not [(path, secret) for path, text in logs.items() for secret in needles if secret.encode() in text]


def by_name(browsers, name):
    """Return the browser of a cluster."""
    return next(browser for browser in browsers if browser.cluster.spec.name == name)
