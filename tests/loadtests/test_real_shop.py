"""The load against the real thing: servers, stores, balancer."""

from collections import Counter

import pytest

from lab.cluster import ClusterSpec, Lab
from loadtests.client import ArmTarget, Generator
from loadtests.lifecycle import Roles, lifecycle_plan
from loadtests.plans import shopping_plan, warmup_plan
from loadtests.two_tabs import two_tabs_plan


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """Clusters in a lab, each an open arm of a generator."""
    folder = tmp_path_factory.mktemp("run")
    with Lab(folder) as lab, Generator(folder / "generator.log") as generator:
        clusters = lab.start(
            ClusterSpec(name="redis", strategy="redis", servers=2),
            ClusterSpec(name="redis versioned", strategy="redis", servers=2, writes="versioned"),
            ClusterSpec(name="isolated", strategy="isolated", servers=2),
            ClusterSpec(name="short", strategy="redis", servers=2, idle_seconds=3, absolute_seconds=6),
        )
        for cluster in clusters:
            generator.open(
                ArmTarget(
                    arm=cluster.spec.name,
                    strategy=cluster.spec.strategy,
                    url=cluster.url,
                    server_urls={server.name: server.url for server in cluster.servers},
                    cookie_name=cluster.cookie_name,
                )
            )
        yield generator


def test_shopping_works_where_sessions_are_shared(stage):
    """Every request of the plan succeeds on Redis, and every view shows what was added; isolated servers forget."""
    arms = ("redis", "isolated")
    stage.run([(arm, warmup_plan(1, rate_rps=100, seconds=0.5, shoppers=10)) for arm in arms])
    result = stage.run([(arm, shopping_plan(1, 0, rate_rps=60, seconds=1, shoppers=10)) for arm in arms])
    shared = [operation for operation in result.operations if operation.arm == "redis"]
    assert Counter(operation.error for operation in shared) == {None: len(shared)}
    assert {operation.server for operation in shared} == {"web-1", "web-2"}
    assert all(o.presented == o.session for o in shared if o.session and o.f != "login")
    in_cart = {arm: sum(bool(o.cart) for o in result.operations if (o.arm, o.f) == (arm, "view")) for arm in arms}
    assert in_cart["redis"] > in_cart["isolated"]
    views = stage.final_views("redis")
    assert len(views) == 10 * 2
    assert {view.outcome for view in views} == {"ok"}


def test_two_tabs_conflict_and_try_again(stage):
    """Under `versioned`, tabs that write at once meet conflicts, and every write succeeds in the end."""
    operations = stage.run([("redis versioned", two_tabs_plan(1, rate_rps=60, seconds=1.5, shoppers=4))]).operations
    assert {operation.status for operation in operations} == {200, 409}
    added = {o.token for o in operations if o.f == "add"}
    assert added == {o.token for o in operations if o.f == "add" and o.outcome == "ok"}


def test_a_lifecycle_ends_sessions(stage):
    """After logout and both lifetimes the old cookie is worth nothing; those who stay are served throughout."""
    roles = Roles(active=10, leaving=5, idling=5, outliving=5)
    plan = lifecycle_plan(1, idle_seconds=3, absolute_seconds=6, begin_seconds=0.5, roles=roles)
    operations = stage.run([("short", plan)]).operations
    stayed = [operation for operation in operations if operation.shopper.startswith("a")]
    assert {(operation.outcome, operation.session is None) for operation in stayed} == {("ok", False)}
    assert len({operation.session for operation in stayed}) == 10
    logouts = {operation.shopper: operation.t1_ns for operation in operations if operation.f == "logout"}
    late = [o for o in operations if o.late and o.f == "view" and o.t0_ns > logouts.get(o.shopper, 0)]
    assert Counter(operation.late for operation in late) > Counter(logout=9, idle=14, absolute=14)
    assert all(operation.presented for operation in late)
    assert {operation.user for operation in late} == {None}
    assert {tuple(operation.cart) for operation in late} == {()}
