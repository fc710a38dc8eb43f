"""The load generator against a real server that behaves, freezes, refuses, errs and hangs."""

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from little_shop import LittleShop, frozen_once

from loadtests import plans
from loadtests.client import ArmTarget, Generator, LoadError
from loadtests.lifecycle import Roles, lifecycle_plan
from loadtests.plans import Plan, PlannedRequest, shopping_plan, warmup_plan
from loadtests.two_tabs import two_tabs_plan
from tests.processes import alive

LOAD = {"rate_rps": 200, "seconds": 0.5, "shoppers": 20}


def plan_of(*requests, seconds=0.1, scenario="shopping"):
    """Plan some requests, in milliseconds: `(at, shopper, f, parameters)`."""
    planned = [
        PlannedRequest(at_seconds=at / 1000, shopper=shopper, f=f, **({"product": 1} | parameters))
        for at, shopper, f, parameters in requests
    ]
    return Plan(scenario=scenario, seconds=seconds, requests=planned)


def test_everything_planned_is_sent_and_recorded(shop, generator, open_arm):
    """Scheduled = sent = recorded = what the server saw, in order, with follow-ups after their adds."""
    arm = open_arm(shop)
    plan = shopping_plan(1, 0, **LOAD)
    result = generator.run([(arm, plan)])
    assert result.scheduled == result.sent == result.recorded == plan.scheduled == len(shop.requests)
    assert {operation.outcome for operation in result.operations} == {"ok"}
    assert [o.t0_ns for o in result.operations] == sorted(o.t0_ns for o in result.operations)
    follows = [operation for operation in result.operations if operation.follow]
    assert len(follows) == sum(request.followed for request in plan.requests) > 0
    by_end = {operation.t1_ns: operation for operation in result.operations}
    for follow in follows:
        add = by_end[follow.intended_ns]
        assert (add.f, add.shopper, follow.f, follow.token) == ("add", follow.shopper, "view", None)
        assert add.token in follow.cart
    assert 0 < result.process_cpu_seconds < result.wall_seconds
    assert len(result.lateness_ms) == sum(operation.slept for operation in result.operations)


def test_every_arm_replays_the_same_plan(generator, open_arm):
    """Several arms at the same time: same requests, same order for each tab, each on its own server, own tokens."""
    with LittleShop("web-1") as one, LittleShop("web-2") as two:
        arms = [open_arm(one), open_arm(two)]
        plan = shopping_plan(2, 0, **LOAD)
        result = generator.run([(arm, plan) for arm in arms])
        seen = [sorted((o.shopper, o.t0_ns, o.f) for o in result.operations if o.arm == arm) for arm in arms]
        assert [(s, f) for s, _, f in seen[0]] == [(s, f) for s, _, f in seen[1]]
        assert {(o.arm, o.server) for o in result.operations} == {(arms[0], "web-1"), (arms[1], "web-2")}
        tokens = [operation.token for operation in result.operations if operation.token]
        assert len(set(tokens)) == len(tokens)
        starts = [min(o.intended_ns for o in result.operations if o.arm == arm) for arm in arms]
        assert starts[0] == starts[1]


def test_a_tab_sends_one_request_after_another(shop, generator, open_arm):
    """A tab's requests never overlap, even if the server is slower than the plan; none is dropped."""
    shop.fault = lambda method, path: time.sleep(0.02)
    plan = plan_of(*((at, "s000", "view", {}) for at in range(0, 50, 5)))
    operations = generator.run([(open_arm(shop), plan)]).operations
    assert len(operations) == 10
    assert all(a.t1_ns <= b.t0_ns for a, b in itertools.pairwise(operations))
    assert [operation.slept for operation in operations[1:]] == [False] * 9


def latency_ms(operation):
    """Latency as the report counts it: from the intended time, unless the tab was idle."""
    return (operation.t1_ns - (operation.t0_ns if operation.slept else operation.intended_ns)) / 1e6


def test_a_frozen_server_shows_in_the_latency(shop, generator, open_arm):
    """Coordinated omission: one freeze delays every request planned meanwhile, though few were under way."""
    arm = open_arm(shop)
    generator.run([(arm, plan_of((0, "s000", "view", {})))])
    with frozen_once(shop, 0.3):
        plan = plan_of(*((10 * n, "s000", "view", {}) for n in range(40)), seconds=0.4)
        operations = generator.run([(arm, plan)]).operations
    service = [(operation.t1_ns - operation.t0_ns) / 1e6 for operation in operations]
    latency = [latency_ms(operation) for operation in operations]
    assert 1 <= sum(one > 100 for one in service) <= 3
    assert max(latency) >= 300
    assert sum(one > 100 for one in latency) >= 15


def test_a_hanging_server_is_recorded_as_timeouts(shop, generator, open_arm):
    """A request that gets no answer ends at the timeout: unknown if a write, failed if a read; none is lost."""
    hang = threading.Event()
    shop.fault = lambda method, path: hang.wait(5)
    arm = open_arm(shop, timeout_seconds=0.3)
    plan = plan_of(
        (0, "s000", "add", {"token": "t"}),
        (0, "s001", "view", {}),
        (1, "s002", "add", {"token": "u", "followed": True}),
    )
    result = generator.run([(arm, plan)])
    hang.set()
    outcomes = {(o.shopper, o.f): (o.outcome, o.status) for o in result.operations}
    assert outcomes == {
        ("s000", "add"): ("info", 0),
        ("s001", "view"): ("fail", 0),
        ("s002", "add"): ("info", 0),
        ("s002", "view"): ("fail", 0),
    }
    assert all("imeout" in operation.error for operation in result.operations)
    assert all(0.3 <= (o.t1_ns - o.t0_ns) / 1e9 < 2 for o in result.operations if not o.follow)
    assert result.wall_seconds < 4


def test_a_dead_server_cannot_hold_up_the_lab(shop, generator, open_arm):
    """Once the drain is over, what is left of a tab's list is still sent, but with a short timeout."""
    hang = threading.Event()
    shop.fault = lambda method, path: hang.wait(10)
    plan = plan_of(*((n, "s000", "product", {}) for n in range(20)))
    result = generator.run([(open_arm(shop, timeout_seconds=0.4), plan)])
    hang.set()
    assert result.scheduled == result.sent == result.recorded == 20
    assert {operation.status for operation in result.operations} == {0}
    assert result.wall_seconds < 20 * 0.4 / 2


def test_a_late_answer_is_not_taken_for_the_next_one(shop, generator, open_arm):
    """After a timeout the connection is given up, so that the next request gets its own answer."""
    shop.fault = lambda method, path: time.sleep(0.5) if path.endswith("/1") else None
    arm = open_arm(shop, timeout_seconds=0.2)
    result = generator.run([(arm, plan_of((0, "s000", "product", {}), (600, "s000", "view", {}), seconds=0.7))])
    assert [(o.f, o.status, o.cart) for o in result.operations] == [("product", 0, None), ("view", 200, [])]


def test_a_dripping_server_is_bounded_too(generator, open_arm):
    """A server that sends a byte now and then, for ever, is given up after the timeout as well."""
    with subprocess.Popen([sys.executable, "-c", DRIPPER], stdout=subprocess.PIPE, text=True) as drip:
        try:
            url = f"http://127.0.0.1:{drip.stdout.readline().strip()}"
            result = generator.run([(open_arm(url=url, timeout_seconds=0.4), plan_of((0, "s000", "view", {})))])
        finally:
            drip.kill()
    assert [(o.outcome, o.status) for o in result.operations] == [("fail", 0)]
    assert result.wall_seconds < 4


DRIPPER = """
import socket, time
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
connection, _ = listener.accept()
connection.recv(9999)
connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 1000\\r\\n\\r\\n")
while True:
    connection.sendall(b" ")
    time.sleep(0.05)
"""


def test_a_refusing_server_is_recorded(generator, open_arm):
    """Nobody listens: everything is sent, recorded, and definitely failed."""
    with LittleShop() as shop:
        url = shop.url
    result = generator.run([(open_arm(url=url, server_urls={}), shopping_plan(3, 0, **LOAD))])
    assert result.scheduled == result.sent == result.recorded > 50
    assert {(o.outcome, o.status) for o in result.operations} == {("fail", 0)}
    assert {o.error.split(":")[0] for o in result.operations} == {"ConnectionRefusedError"}


def test_an_erring_server_is_recorded(shop, generator, open_arm):
    """A server error leaves writes unknown and reads failed, with the server's words."""
    shop.fault = lambda method, path: 500
    result = generator.run([(open_arm(shop), shopping_plan(4, 0, **LOAD))])
    assert result.scheduled == result.sent == result.recorded > 50
    assert {(o.outcome, o.f in {"view", "product", "search"}) for o in result.operations} == {
        ("fail", True),
        ("info", False),
    }
    assert {operation.error for operation in result.operations} == {"HTTP 500: ordered"}


def test_cookies_and_connections_are_kept(shop, generator, open_arm):
    """A shopper's session and connection outlive the run: log in once, and every later run is greeted by name."""
    arm = open_arm(shop)
    warmed = generator.run([(arm, warmup_plan(1, rate_rps=200, seconds=0.3, shoppers=20))])
    ports = {port for *_, port in shop.requests}
    sessions = {operation.shopper: operation.session for operation in warmed.operations if operation.f == "login"}
    later = generator.run([(arm, shopping_plan(1, 0, **LOAD))]).operations
    views = [operation for operation in later if operation.f == "view"]
    assert len(views) > 10
    gone = {operation.shopper for operation in later if operation.f == "logout"}
    for view in views:
        if view.shopper not in gone:
            assert (view.user, view.session, view.presented) == (view.shopper, *2 * [sessions[view.shopper]])
    assert {port for *_, port in shop.requests} == ports
    assert len(ports) == 20


def test_tabs_share_a_cookie_jar(shop, generator, open_arm):
    """What one tab puts into the cart, the other sees; their requests may overlap."""
    plan = plan_of((0, "s000", "add", {"token": "t"}), (200, "s000", "view", {"tab": 1}))
    added, seen = generator.run([(open_arm(shop), plan)]).operations
    assert (added.tab, seen.tab) == (0, 1)
    assert seen.cart == [added.token]
    assert seen.presented == added.session
    assert added.presented is None


def test_a_conflict_is_tried_again(shop, generator, open_arm):
    """After a 409 the same request goes out again, each time recorded, until it succeeds."""
    conflicts = itertools.count()
    shop.fault = lambda method, path: 409 if method == "POST" and next(conflicts) < 3 else None
    arm = open_arm(shop)
    result = generator.run([(arm, plan_of((0, "s000", "add", {"token": "t"})))])
    assert [(o.status, o.outcome, o.attempt) for o in result.operations] == [
        (409, "fail", 0),
        (409, "fail", 1),
        (409, "fail", 2),
        (200, "ok", 3),
    ]
    assert len({operation.token for operation in result.operations}) == 1
    assert all(b.intended_ns == a.t1_ns for a, b in itertools.pairwise(result.operations))
    assert not any(operation.slept for operation in result.operations[1:])
    assert (result.scheduled, result.sent, result.recorded, result.retries) == (4, 4, 4, 3)
    shop.fault = lambda method, path: 409
    assert generator.run([(arm, plan_of((0, "s000", "add", {"token": "u"})))]).retries == 20


def test_two_tabs_overlap(shop, generator, open_arm):
    """In the two-tabs plan, writes of one session are really under way at the same time."""
    shop.fault = lambda method, path: time.sleep(0.002)
    plan = two_tabs_plan(1, rate_rps=100, seconds=1, shoppers=5)
    operations = generator.run([(open_arm(shop), plan)]).operations
    assert Counter(o.outcome for o in operations) == {"ok": len(operations)}
    second = [operation for operation in operations if operation.tab == 1]
    others = [operation for operation in operations if operation.tab == 0]
    overlapping = sum(
        any(a.shopper == b.shopper and a.t0_ns < b.t1_ns and b.t0_ns < a.t1_ns for a in others) for b in second
    )
    assert overlapping > 0.5 * len(second) > 20


def test_late_requests_present_the_old_cookie(shop, generator, open_arm):
    """After a logout the late request still names the session that ended; the shopper's own jar is untouched by it."""
    arm = open_arm(shop)
    plan = plan_of(
        (0, "s000", "login", {}),
        (150, "s000", "logout", {}),
        (300, "s000", "view", {"late": "logout", "tab": 1}),
        (450, "s000", "add", {"late": "logout", "tab": 1, "token": "t"}),
        (600, "s000", "view", {}),
    )
    login, logout, view, add, last = generator.run([(arm, plan)]).operations
    assert logout.presented == view.presented == add.presented == login.session
    assert (view.late, view.session, view.user, view.cart) == ("logout", None, None, [])
    assert add.session != login.session
    assert (last.late, last.presented, last.cart) == (None, None, [])


def test_a_lifecycle_plan_runs(shop, generator, open_arm):
    """On a server that never expires anything, the idle and the outliving are found alive by their late requests."""
    plan = lifecycle_plan(
        1,
        idle_seconds=1.2,
        absolute_seconds=2.6,
        begin_seconds=0.5,
        roles=Roles(active=8, leaving=4, idling=4, outliving=4),
    )
    operations = generator.run([(open_arm(shop), plan)]).operations
    served = {
        late: {o.user for o in operations if o.late == late and o.f == "view"}
        for late in ("logout", "idle", "absolute")
    }
    assert served["logout"] == {None}
    assert served["idle"] == {f"i{n:03d}" for n in range(4)}
    assert served["absolute"] == {f"o{n:03d}" for n in range(4)}
    assert all(operation.presented for operation in operations if operation.late)


def test_final_views_ask_every_server(generator, open_arm):
    """Every shopper's cart is asked of every server itself, with the shopper's cookie, past the balancer."""
    sessions = {}
    with LittleShop("web-1", sessions) as one, LittleShop("web-2", sessions) as two:
        arm = open_arm(one, two)
        plan = plan_of((0, "s000", "add", {"token": "t"}), (0, "s001", "view", {}))
        added = next(o for o in generator.run([(arm, plan)]).operations if o.f == "add")
        views = generator.final_views(arm)
        assert {(o.shopper, o.server): o.cart for o in views} == {
            ("s000", "web-1"): [added.token],
            ("s000", "web-2"): [added.token],
            ("s001", "web-1"): [],
            ("s001", "web-2"): [],
        }
        assert {(o.f, o.phase, o.scenario, o.outcome) for o in views} == {("final_view", "final", "shopping", "ok")}
        assert min(o.i for o in views) > added.i
        assert {o.shopper for o in generator.final_views(arm, ["s001"])} == {"s001"}
        with pytest.raises(LoadError, match="never seen"):
            generator.final_views(arm, ["nobody"])


def test_numbers_are_raw(shop, generator, open_arm):
    """Times are nanoseconds of the clock that the lab itself reads, not Locust's rounded milliseconds."""
    before = time.monotonic_ns()
    operations = generator.run([(open_arm(shop), shopping_plan(5, 0, **LOAD))]).operations
    assert before < operations[0].t0_ns < operations[-1].t1_ns < time.monotonic_ns()
    service = np.array([operation.t1_ns - operation.t0_ns for operation in operations])
    assert (service % 1_000_000 != 0).all()


def test_errors_in_the_process_reach_the_lab(shop, generator, open_arm):
    """What goes wrong in the generator is one clear error here, and the generator lives on."""
    arm = open_arm(shop)
    with pytest.raises(LoadError, match="'nowhere' is not open"):
        generator.run([("nowhere", plan_of())])
    with pytest.raises(LoadError, match="KeyError: 'dance'"):
        generator.run([(arm, plan_of((0, "s000", "dance", {})))])
    assert generator.run([(arm, plan_of((0, "s000", "view", {})))]).recorded == 1


def test_a_lost_record_is_loud(shop):
    """If the recorder loses a single exchange, the run is an error and not a smaller sample."""
    code = [sys.executable, "-c", LOSSY_RECORDER, shop.url]
    done = subprocess.run(code, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "2 requests were scheduled, 2 sent, 1 recorded"


LOSSY_RECORDER = """
import sys
from loadtests import shoppers
from loadtests.generator import Generator
from loadtests.plans import Plan, PlannedRequest
from loadtests.wire import ArmTarget, LoadError, Open, Run

class Lossy(list):
    def append(self, exchange):
        if exchange.planned.at_seconds:
            super().append(exchange)

begin = shoppers.Walk.__init__
def begin_lossy(self, *args):
    begin(self, *args)
    self.exchanges = Lossy()
shoppers.Walk.__init__ = begin_lossy

generator = Generator()
generator.do(Open(ArmTarget(arm="a", strategy="s", url=sys.argv[1], server_urls={}, cookie_name="c")))
requests = [PlannedRequest(at_seconds=at, shopper="s000", f="view") for at in (0.0, 0.01)]
try:
    generator.do(Run([("a", Plan(scenario="shopping", seconds=0.1, requests=requests))]))
except LoadError as error:
    print(error)
"""


def test_a_dead_generator_is_reported(tmp_path):
    """If the process is gone, the lab hears of it in one line that names the log."""
    with Generator(tmp_path / "generator.log") as generator:
        subprocess.run(["kill", "-9", str(generator.pid)], check=True)
        with pytest.raises(LoadError, match=r"has ended \(status -9\).*generator.log"):
            generator.open(ArmTarget(arm="a", strategy="s", url="http://127.0.0.1:1", server_urls={}, cookie_name="c"))


def test_ctrl_c_is_left_to_the_lab(shop, tmp_path):
    """SIGINT, which a terminal sends to the whole group, does not end the generator."""
    with Generator(tmp_path / "generator.log") as generator:
        target = ArmTarget(arm="a", strategy="s", url=shop.url, server_urls={}, cookie_name="little")
        generator.open(target)
        subprocess.run(["kill", "-INT", str(generator.pid)], check=True)
        assert generator.run([("a", plan_of((0, "s000", "view", {})))]).recorded == 1


def test_the_generator_ends_with_the_lab(tmp_path):
    """When the lab is killed in the midst of a run, the generator ends at once, not after the plan."""
    with LittleShop() as shop:
        lab = subprocess.Popen(
            [sys.executable, "-c", KILLED_LAB, str(tmp_path / "log"), shop.url],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        with lab:
            pid = int(lab.stdout.readline())
            wait_until(lambda: len(shop.requests) > 3)
            lab.send_signal(signal.SIGKILL)
        wait_until(lambda: not alive([pid]))


KILLED_LAB = """
import sys
from pathlib import Path
from loadtests.client import ArmTarget, Generator
from loadtests.plans import shopping_plan
generator = Generator(Path(sys.argv[1]))
print(generator.pid, flush=True)
generator.open(ArmTarget(arm="a", strategy="s", url=sys.argv[2], server_urls={}, cookie_name="c"))
generator.run([("a", shopping_plan(1, 0, rate_rps=50, seconds=60, shoppers=4))])
"""


def wait_until(condition, seconds=10):
    """Wait for a condition, and fail if it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_lab_is_not_patched():
    """Using the generator leaves the lab's own process without gevent."""
    code = "import loadtests.client, loadtests.plans, sys; sys.exit('gevent' in sys.modules or 'locust' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_locustfile_works_by_hand(shop):
    """Plain `locust` runs the locustfile: all requests succeed, and each verb is one row."""
    options = ["--headless", "--users", "20", "--spawn-rate", "20", "--run-time", "90s", "--json"]
    options += ["--stop-timeout", "20"]  # what is under way when it ends is finished, and counted
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--host", shop.url, *options]
    wanted = {("POST", "/api/login"), ("GET", "/api/cart"), ("POST", "/api/cart")}
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as locust:
        while locust.poll() is None and not wanted <= {seen[:2] for seen in list(shop.requests)}:
            time.sleep(0.05)
        locust.terminate()
        answer, told = locust.communicate(timeout=60)
    assert locust.returncode == 0, told
    rows = {row["name"]: row["num_requests"] for row in json.loads(answer)}
    assert rows["login"] > 0
    assert {"view", "add"} <= set(rows) <= {*plans.MIX, "login", "logout", "checkout"}
