"""The rules of `redis-speed`, at each of their outcomes, with made-up numbers."""

from __future__ import annotations

import pytest
from reasons import reasoned

from lab.claim_rules import redis_speed


def interval(estimate, low=None, high=None):
    """Return a number with its interval as results have it."""
    return {"estimate": estimate, "low": low, "high": high}


def times(read, write, away=None):
    """Return results with the mean times of a read and a write of 1 KB in Redis."""

    def cell(store, operation, mean, distance=None):
        place = {"store": store, "operation": operation, "size": 1024, "round_trip_ms": distance}
        return {**place, "mean_ms": mean}

    beside = [cell("database", operation, interval(0.3)) for operation in ("read", "write")]
    cells = [cell("redis", "read", read), cell("redis", "write", write), *beside]
    network = [] if away is None else [cell("redis", "read", interval(away + 0.1), away)]
    return {
        "redis_speed": {"sessions": {"settled_size": 1024, "cells": cells}, "network": {"cells": network}},
    }


QUICK, SLOW, NEAR = interval(0.06, 0.05, 0.07), interval(1.3, 1.0, 1.5), interval(0.98, 0.9, 1.1)


@pytest.mark.parametrize(
    ("read", "write", "verdict"),
    [
        (QUICK, QUICK, "holds"),
        (QUICK, interval(0.9, 0.8, 1.0), "holds"),
        (QUICK, NEAR, "cannot tell"),
        (NEAR, NEAR, "cannot tell"),
        (QUICK, interval(0.06), "cannot tell"),
        (QUICK, SLOW, "does not hold"),
        (SLOW, QUICK, "does not hold"),
        (SLOW, NEAR, "does not hold"),
    ],
)
def test_under_1ms_takes_both_means_with_their_whole_intervals(read, write, verdict):
    """Either on the wrong side refutes it; both must lie on the right one."""
    assert reasoned(redis_speed.redis_under_1ms(times(read, write))).verdict == verdict


def test_under_1ms_says_what_stands_beside_it():
    """PostgreSQL, and the longest emulated way where there was one."""
    told = redis_speed.redis_under_1ms(times(QUICK, SLOW, away=2.0))
    assert "one session read took 0.060 ms (0.050 to 0.070)" in told.evidence
    assert "PostgreSQL: 0.300 and 0.300 ms" in told.evidence
    assert "an emulated network round trip of 2 ms a read took 2.10 ms" in told.evidence
    assert told.numbers["write_ms_low"] == 1.0
    assert "emulated" not in redis_speed.redis_under_1ms(times(QUICK, QUICK)).evidence


def rates(*cells):
    """Return results with pipelined operations."""
    return {"redis_speed": {"pipeline": {"cells": list(cells)}}}


def rate(command, depth, core, clock=None, connections=8):
    """Return what one way of asking gave; `core` is None where the CPU time was not to be seen."""
    clock = clock or interval(100_000.0, 90_000.0, 110_000.0)
    shape = {"command": command, "depth": depth, "connections": connections, "busy": None if core is None else 0.9}
    return {**shape, "per_core_second": core, "per_second": clock}


MANY = interval(1_400_000.0, 1_000_000.0, 1_700_000.0)
SOME = interval(900_000.0, 800_000.0, 1_100_000.0)
FEW = interval(400_000.0, 300_000.0, 500_000.0)


@pytest.mark.parametrize(
    ("cells", "verdict"),
    [
        ([rate("GET", 64, MANY), rate("SET", 64, FEW)], "holds"),
        ([rate("GET", 64, FEW), rate("SET", 16, MANY)], "holds"),
        ([rate("GET", 128, SOME), rate("SET", 64, FEW)], "cannot tell"),
        ([rate("GET", 128, interval(2e6))], "cannot tell"),
        ([rate("GET", 128, FEW), rate("SET", 64, FEW)], "does not hold"),
        ([rate("GET", 128, interval(600_000.0, 400_000.0, 700_000.0))], "cannot tell"),
        ([rate("GET", 1, MANY)], "not tested"),
        ([rate("SET, no log", 64, MANY), rate("GET", 64, FEW)], "does not hold"),
        ([], "not tested"),
    ],
)
def test_millions_takes_the_better_of_pipelined_get_and_set(cells, verdict):
    """Per second of one core; what is not pipelined, or writes no log, does not count."""
    assert reasoned(redis_speed.redis_millions(rates(*cells))).verdict == verdict


@pytest.mark.parametrize(("clock", "verdict"), [(MANY, "holds"), (FEW, "does not hold")])
def test_millions_goes_by_the_clock_where_the_cpu_time_is_not_to_be_seen(clock, verdict):
    """And says so."""
    told = redis_speed.redis_millions(rates(rate("GET", 64, None, clock)))
    assert told.verdict == verdict
    assert "by the clock (its CPU time cannot be seen from here)" in told.evidence


def test_millions_says_what_one_at_a_time_gives():
    """And the rate by the clock, and the other command's best."""
    alone = rate("GET", 1, interval(60_000.0), interval(30_000.0), connections=1)
    told = redis_speed.redis_millions(rates(rate("GET", 64, MANY), rate("SET", 16, FEW), alone)).evidence
    assert told == (
        "GET, 64 to a request: 1,400,000 (1,000,000 to 1,700,000) operations per second of CPU time of the Redis "
        "process, 100,000 by the clock with Redis busy 90 % of the time; SET at most 400,000; one at a time 30,000 GET "
        "per second."
    )


def changes(native_bytes, native_lost, value_lost, confirmed=960):
    """Return results with a session's changes in both ways; one value sends 1000 bytes."""
    ways = {
        "one value": {"sent_bytes": 1000.0, "lost": value_lost, "confirmed": confirmed},
        "native types": {"sent_bytes": native_bytes, "lost": native_lost, "confirmed": confirmed},
    }
    return {"redis_speed": {"types": {"writers": 4, "ways": ways}}}


@pytest.mark.parametrize(
    ("native_bytes", "native_lost", "value_lost", "verdict"),
    [
        (30.0, 0, 500, "holds"),
        (500.0, 0, 1, "holds"),
        (501.0, 0, 500, "cannot tell"),
        (900.0, 0, 500, "cannot tell"),
        (30.0, 0, 0, "cannot tell"),
        (901.0, 0, 500, "does not hold"),
        (30.0, 1, 500, "does not hold"),
        (700.0, 1, 0, "does not hold"),
    ],
)
def test_native_types_take_bytes_and_losses(native_bytes, native_lost, value_lost, verdict):
    """Half the bytes and nothing lost where one value loses; more than 0.9 of the bytes, or a loss, refutes it."""
    assert reasoned(redis_speed.redis_native_types(changes(native_bytes, native_lost, value_lost))).verdict == verdict


def test_native_types_tell_their_numbers():
    """Bytes, their ratio, and losses of both."""
    told = redis_speed.redis_native_types(changes(30.0, 0, 500))
    assert "(0.03 times)" in told.evidence
    assert "lost 0 of 960 confirmed changes with native types, 500 of 960 with one value" in told.evidence
    assert told.numbers == {"bytes_ratio": 0.03, "native_lost": 0, "value_lost": 500}


@pytest.mark.parametrize("rule", ["redis_under_1ms", "redis_millions", "redis_native_types"])
@pytest.mark.parametrize("results", [{}, {"redis_speed": {"sessions": {}, "pipeline": None, "types": None}}])
def test_what_was_not_measured_is_not_tested(rule, results):
    """Each rule says so."""
    assert getattr(redis_speed, rule)(results).verdict == "not tested"
