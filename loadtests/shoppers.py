"""Shoppers who keep to a plan, come what may.

Runs in the load generator's process only: importing Locust patches the standard library for gevent.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from http import HTTPStatus
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING

import gevent
import msgspec
from geventhttpclient.client import HTTPClientPool
from geventhttpclient.response import HTTPConnectionClosed
from locust import FastHttpUser
from locust.env import Environment

from loadtests import api
from loadtests.answers import Exchange
from loadtests.plans import PlannedRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from loadtests.plans import Plan
    from loadtests.wire import ArmTarget

CONNECTION_GROUPS = 64
"""Tabs beyond this many share connections, so that hundreds of shoppers need no more sockets than dozens."""

CONNECTIONS_PER_GROUP = 16
"""Far more than the tabs of a group ever use at once: a tab must not wait for another's connection."""

MAX_RETRIES = 20
"""How often a request is sent again after a conflict (409)."""

HURRY_SECONDS = 0.1
"""How long a request may take once the drain is over: it is still sent, but a dead server cannot hold up the lab."""

SECOND_NS = 1_000_000_000


class Client(FastHttpUser):
    """Locust's fast HTTP client with a clock of our own around each request (Locust's statistics round to 1 ms)."""

    abstract = True
    max_redirects = 0

    def __init__(self, target: ArmTarget, pool: HTTPClientPool, jar: CookieJar | None) -> None:
        self.host, self.client_pool = target.url, pool
        super().__init__(_ENVIRONMENT)
        agent = self.client.client
        agent.cookiejar = jar
        vars(agent)["valid_response_codes"] = range(100, 600)  # a status is an answer, not an exception

    def send(
        self,
        exchange: Exchange,
        method: str,
        url: str,
        body: str | None,
        *,
        timeout_seconds: float,
        cookies: str | None = None,
    ) -> Exchange:
        """Send one request, note times and answer in `exchange`, and return it.

        A balancer that is given a new configuration closes connections on which nothing has come for a while, and now
        and then a request is on its way to it in that very moment: no server ever sees it. A shopper's browser sends
        it again on a new connection, writes too, and so does this client, once. (All but POST the library beneath sends
        again by itself.) No other failure is tried again.

        Args:
            exchange: to be filled.
            method: HTTP method.
            url: path at the balancer, or a whole URL.
            body: JSON, or None.
            timeout_seconds: the longest that it may take, all in all.
            cookies: a Cookie header to send instead of the jar's.
        """
        headers = {"Accept-Encoding": "identity"}
        if body is not None:
            headers["Content-Type"] = "application/json"
            exchange.sent_bytes = len(body.encode())
        if cookies:
            headers["Cookie"] = cookies
        exchange.t0_ns = time.monotonic_ns()
        with gevent.Timeout(timeout_seconds):
            self._ask(exchange, method, url, body, headers)
            if isinstance(exchange.error, HTTPConnectionClosed) and method == "POST":
                exchange.resent = True
                self._ask(exchange, method, url, body, headers)
        exchange.t1_ns = time.monotonic_ns()
        return exchange

    def _ask(self, exchange: Exchange, method: str, url: str, body: str | None, headers: dict[str, str]) -> None:
        with self.client.request(method, url, data=body, headers=headers, catch_response=True) as answer:
            error = answer.request_meta["exception"]
            exchange.error = getattr(error, "original", None) or error
            if error is None:
                exchange.status, exchange.headers, exchange.body = answer.status_code, answer.headers, answer.content


class Shopper:
    """One user of the shop: a cookie jar that the tabs share, and the session cookie that was held last.

    Args:
        cookie_name: the session cookie's name.
    """

    def __init__(self, cookie_name: str) -> None:
        self.jar = CookieJar()
        self.plan: Plan | None = None
        self._held: tuple[str, str | None] = ("", None)
        self._cookie_name = cookie_name
        self._set_cookie = re.compile(rf"\b{re.escape(cookie_name)}=([^;]+)")
        self._sessions: dict[str, str] = {}

    def cookies(self, *, late: bool = False) -> tuple[str, str | None]:
        """Give the Cookie header to present, and the short hash of the session that it names.

        Args:
            late: those that were held last, even if the session has been logged out or has expired since.
        """
        if late:
            return self._held
        cookies = {cookie.name: cookie.value or "" for cookie in self.jar}
        header = "; ".join(f"{name}={value}" for name, value in cookies.items())
        return header, self._sessions.get(cookies.get(self._cookie_name, ""))

    def learn(self, headers: Mapping[str, str]) -> None:
        """Note which session a new cookie names, and hold on to it."""
        found = self._set_cookie.search(str(headers.get("set-cookie")))
        if found and "x-session" in headers:
            self._sessions[found[1]] = headers["x-session"]
        held = self.cookies()
        if held[1] is not None:
            self._held = held


class Arm:
    """One arm's shoppers, with their cookies and open connections, kept from run to run.

    Args:
        target: where they go.
        number: the arm's number among the generator's arms.
    """

    def __init__(self, target: ArmTarget, number: int) -> None:
        self.target = target
        self._tag = f"{number:02d}"
        self.shoppers: defaultdict[str, Shopper] = defaultdict(lambda: Shopper(target.cookie_name))
        self.tabs: dict[tuple[str, int], Client] = {}
        self._pools = [self._pool() for _ in range(CONNECTION_GROUPS)]
        self.stranger = Client(target, self._pool(), None)

    def walks(self, plan: Plan) -> list[Walk]:
        """Share a plan out among its tabs."""
        lists: defaultdict[tuple[str, int], list[PlannedRequest]] = defaultdict(list)
        for planned in plan.requests:
            lists[planned.shopper, planned.tab].append(self._own(planned))
        return [Walk(self, key, plan, requests) for key, requests in lists.items()]

    def tab(self, key: tuple[str, int]) -> Client:
        """Give a shopper's tab, new or as the last run left it."""
        if key not in self.tabs:
            pool = self._pools[len(self.tabs) % CONNECTION_GROUPS]
            self.tabs[key] = Client(self.target, pool, self.shoppers[key[0]].jar)
        return self.tabs[key]

    def final_views(self, server: str, names: list[str]) -> Iterator[Exchange]:
        """Ask one server, past the balancer, for each shopper's cart."""
        for name in names:
            planned = PlannedRequest(at_seconds=0.0, shopper=name, f="final_view")
            exchange = Exchange(planned=planned, f="final_view", intended_ns=time.monotonic_ns())
            cookies, exchange.presented = self.shoppers[name].cookies()
            method, path, body = api.VIEW
            yield self.stranger.send(
                exchange,
                method,
                self.target.server_urls[server] + path,
                body,
                cookies=cookies,
                timeout_seconds=self.target.timeout_seconds,
            )

    def _own(self, planned: PlannedRequest) -> PlannedRequest:
        """Make tokens unique in the run: an order's token buys once, whichever arm sends it first."""
        tagged = {key: f"{self._tag}.{value}" for key in ("token", "line") if (value := getattr(planned, key))}
        return msgspec.structs.replace(planned, **tagged)

    def _pool(self) -> HTTPClientPool:
        seconds = self.target.timeout_seconds
        return HTTPClientPool(concurrency=CONNECTIONS_PER_GROUP, network_timeout=seconds, connection_timeout=seconds)


class Walk:
    """One tab's way through its part of a plan."""

    def __init__(self, arm: Arm, key: tuple[str, int], plan: Plan, requests: list[PlannedRequest]) -> None:
        self.arm, self.plan, self.requests = arm, plan, requests
        self.client, self.shopper = arm.tab(key), arm.shoppers[key[0]]
        self.shopper.plan = plan
        self.exchanges: list[Exchange] = []
        self.sent = 0
        self.retries = 0
        self.omitted = 0
        self._drained_ns = 0

    def run(self, start_ns: int) -> None:
        """Send every request at its time, or as soon as the one before it has ended; leave none out.

        Args:
            start_ns: the plan's time zero on the monotonic clock.
        """
        patience_seconds = self.plan.seconds + self.arm.target.timeout_seconds
        self._drained_ns = start_ns + round(patience_seconds * SECOND_NS)
        if self.plan.closed:
            self._run_closed(start_ns)
            return
        for planned in self.requests:
            self._send_planned(planned, start_ns + round(planned.at_seconds * SECOND_NS))

    def _run_closed(self, start_ns: int) -> None:
        """Send each request as long after the last answer as the plan has it after the last request.

        Its clock starts when it is sent, as in most load tools: nobody knows that it should have been sent before.
        """
        answered_ns, last_seconds = start_ns, 0.0
        for number, planned in enumerate(self.requests):
            due_ns = answered_ns + round((planned.at_seconds - last_seconds) * SECOND_NS)
            if due_ns >= start_ns + round(self.plan.seconds * SECOND_NS):
                self.omitted = sum(1 + left.followed for left in self.requests[number:])
                return
            answered_ns = self._send_planned(planned, due_ns).t1_ns
            last_seconds = planned.at_seconds

    def _send_planned(self, planned: PlannedRequest, intended_ns: int) -> Exchange:
        """Send a request at its time, and the view that follows it, if so; return the last exchange."""
        slept = _sleep_until(intended_ns)
        done = self._send(Exchange(planned=planned, f=planned.f, slept=slept, intended_ns=intended_ns))
        if not planned.followed:
            return done
        return self._send(Exchange(planned=planned, f="view", follow=True, intended_ns=done.t1_ns))

    def _send(self, exchange: Exchange) -> Exchange:
        """Send a request, again and again while it meets a conflict; each time is an exchange of its own."""
        self._send_once(exchange)
        while exchange.status == HTTPStatus.CONFLICT and exchange.attempt < MAX_RETRIES:
            self.retries += 1
            attempt, intended_ns = exchange.attempt + 1, exchange.t1_ns
            exchange = Exchange(
                planned=exchange.planned, f=exchange.f, follow=exchange.follow, attempt=attempt, intended_ns=intended_ns
            )
            self._send_once(exchange)
        return exchange

    def _send_once(self, exchange: Exchange) -> None:
        self.sent += 1
        late = exchange.planned.late is not None
        cookies, exchange.presented = self.shopper.cookies(late=late)
        client = self.arm.stranger if late else self.client
        method, path, body = api.VIEW if exchange.f == "view" else api.http(exchange.planned)
        override = cookies if late else None
        client.send(exchange, method, path, body, cookies=override, timeout_seconds=self._patience())
        self.exchanges.append(exchange)
        if not late and "set-cookie" in exchange.headers:
            self.shopper.learn(exchange.headers)

    def _patience(self) -> float:
        left_seconds = (self._drained_ns - time.monotonic_ns()) / SECOND_NS
        return min(self.arm.target.timeout_seconds, max(left_seconds, HURRY_SECONDS))


def _sleep_until(intended_ns: int) -> bool:
    """Sleep until a time of the monotonic clock; say whether there was anything to sleep."""
    slept = False
    while (left_ns := intended_ns - time.monotonic_ns()) > 0:
        gevent.sleep(left_ns / SECOND_NS)
        slept = True
    return slept


_ENVIRONMENT = Environment()
