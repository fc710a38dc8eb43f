"""The textbook's claims: students meet these sentences in every course, and the lab puts a measurement under each.

A claim is `holds`, `does not hold` (here), `cannot tell` (in between, or too few opportunities) or `not tested`.
Adding a claim is one entry in `CLAIMS` and one rule in `claim_rules` for each experiment that can judge it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from lab.claim_rules import cache, compare, contention, failover, hotspot, redis_speed, scale
from lab.claim_rules.judgement import Judgement, Results

Rule = Callable[[Results], Judgement]


class Claim(msgspec.Struct, frozen=True):
    """One sentence of the textbook.

    Attributes:
        id: its name.
        claim: the sentence in English.
        korean: the sentence as the source has it, where it has one.
        experiments: which experiments judge it, the first one first.
        turns: under which condition it would hold where it does not, or lies in between.
        rules: experiment to how it judges the claim; none for an experiment that cannot.
    """

    id: str
    claim: str
    korean: str
    experiments: tuple[str, ...]
    turns: str = ""
    rules: dict[str, Rule] = {}


def judge(results: Results) -> list[dict[str, Any]]:
    """Judge every claim from the results of a run.

    Returns:
        One plain dict per claim, for `results.json`: id, claim, korean, experiment, verdict, evidence, numbers, turns.
    """
    return [_judged(claim, results) for claim in CLAIMS]


def _judged(claim: Claim, results: Results) -> dict[str, Any]:
    rule = claim.rules.get(results["experiment"])
    if rule is None:
        text = f"`{results['experiment']}` cannot tell; `{claim.experiments[0]}` is to test it."
        judgement = Judgement("not tested", text)
    else:
        judgement = rule(results)
    return {
        "id": claim.id,
        "claim": claim.claim,
        "korean": claim.korean,
        "experiment": ", ".join(claim.experiments),
        "verdict": judgement.verdict,
        "evidence": " ".join(filter(None, (judgement.evidence, judgement.left_open))),
        "numbers": judgement.numbers,
        "turns": claim.turns if judgement.verdict == "does not hold" or judgement.left_open else "",
    }


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "cart-flickers",
        "With several servers, each with its own sessions, the cart changes from one visit to the next.",
        "재접속할 때마다 목록이 달라지면 정상적 서비스 이용이 불가능하다.",
        ("compare",),
        "It would hold if the balancer sent a shopper's requests to different servers.",
        {"compare": compare.cart_flickers},
    ),
    Claim(
        "sticky-consistent",
        "Binding a shopper to the server with the session restores consistency.",
        "유저는 세션 정보를 갖고 있는 웹 서버에 종속되어야 한다.",
        ("compare",),
        "It would hold as long as no server fails and the balancer keeps every shopper bound.",
        {"compare": compare.sticky_consistent},
    ),
    Claim(
        "sticky-hotspot",
        "Bound shoppers concentrate traffic, and other servers cannot take it.",
        "특정 웹 서버에 종속된 클라이언트가 많아 트래픽이 집중되고 분산시킬 수 없다.",
        ("hotspot",),
        "It would hold with fewer shoppers or more servers, so that few heavy shoppers weigh more, if all stay bound.",
        {"hotspot": hotspot.sticky_hotspot},
    ),
    Claim(
        "sticky-loses",
        "The sessions of a dead server are gone.",
        "",
        ("failover",),
        "It would hold if nothing but the dead server had known them.",
        {"failover": failover.sticky_loses},
    ),
    Claim(
        "copies-n",
        "All-to-all stores every session N times.",
        "유저의 세션 데이터가 여러 서버로 복사되어 저장된다.",
        ("scale",),
        "It would hold if every server kept a copy of every session.",
        {"scale": scale.copies_n},
    ),
    Claim(
        "copies-unused",
        "The other copies are never used.",
        "나머지 서버에 담긴 데이터는 사용되지 않는다.",
        ("compare",),
        "It would hold if shoppers stayed with one server, so that nobody asked the others.",
        {"compare": compare.copies_unused},
    ),
    Claim(
        "replication-traffic",
        "All-to-all causes much needless traffic.",
        "불필요한 네트워크 트래픽도 다수 발생한다.",
        ("scale",),
        "It would hold where nobody reads what the other servers were sent: bound shoppers, or short sessions.",
        {"scale": scale.replication_traffic},
    ),
    Claim(
        "all-to-all-free",
        "With all-to-all any server can serve a shopper.",
        "유저를 여러 웹 서버에 분산시킬 수 있다.",
        ("compare", "failover"),
        "It would hold if every live server had each write before the shopper got the answer.",
        {"compare": compare.all_to_all_free, "failover": failover.all_to_all_free_after_all},
    ),
    Claim(
        "database-slows",
        "Sessions in the service's own database slow the whole service.",
        "데이터베이스를 세션 스토어로 사용하면 서비스 전반적인 응답 속도 저하를 유발할 수 있다.",
        ("contention",),
        "It would hold where the database is busier than anything else: with servers enough on machines of their own "
        "to fill its processors, or a disk that takes milliseconds to keep a commit.",
        {"contention": contention.database_slows},
    ),
    Claim(
        "redis-solves",
        "With Redis any server can answer, nothing is duplicated, and it is quick.",
        "",
        ("compare", "failover"),
        "It would hold where Redis answers every server alike and a round trip to it is short beside the page's work.",
        {"compare": compare.redis_solves, "failover": failover.redis_solves_after_all},
    ),
    Claim(
        "redis-under-1ms",
        "Reads and writes take less than 1 ms on average.",
        "평균 읽기 및 쓰기 작업 속도가 1ms 미만이다.",
        ("redis-speed",),
        "It would hold on a machine that is not busy, with a network round trip to Redis that leaves some of the 1 ms.",
        {"redis-speed": redis_speed.redis_under_1ms},
    ),
    Claim(
        "redis-millions",
        "Millions of operations a second.",
        "초당 수백만 건의 작업이 가능하다.",
        ("redis-speed",),
        "It would hold on a quicker core, or with several Redis processes that share the keys, a core for each.",
        {"redis-speed": redis_speed.redis_millions},
    ),
    Claim(
        "redis-native-types",
        "Lists, hashes and sets are stored without conversion.",
        "list, hash, set 등의 자료구조 변환을 위한 별도 과정 없이 바로 저장이 가능하다.",
        ("redis-speed",),
        "It would hold where a change names only what changes, and Redis applies it in one command.",
        {"redis-speed": redis_speed.redis_native_types},
    ),
    Claim(
        "session-persists",
        "Kept while logged in.",
        "사용자가 로그인한 동안에는 해당 정보가 계속 유지된다.",
        ("compare",),
        "It would hold if every request of an active shopper met, and prolonged, the same session.",
        {"compare": compare.session_persists},
    ),
    Claim(
        "logout-deletes",
        "Leaving deletes the session.",
        "유저가 서비스를 떠나면 세션 스토어에서 유저 정보를 삭제한다.",
        ("compare",),
        "It would hold if a logout reached every copy, and late requests could not write a session anew.",
        {"compare": compare.logout_deletes},
    ),
    Claim(
        "dwell-useful",
        "Time spent on each page can be kept in the session, and be analysed to improve the business.",
        "각 페이지에서 소비하는 시간을 저장한 뒤 사용자 행동을 분석하여 비즈니스 개선에 사용할 수 있다.",
        ("insights",),
    ),
    Claim(
        "cache-faster",
        "Faster where the origin must search or compute.",
        "캐시에서 가져오는 것이 원본 요청보다 빨라야 한다.",
        ("cache",),
        "It would hold where the origin's query costs clearly more than asking the cache: see the break-even.",
        {"cache": cache.cache_faster},
    ),
    Claim(
        "cache-needs-reuse",
        "It pays for data asked for often.",
        "자주 검색되는 데이터.",
        ("cache",),
        "It would hold if some things were asked for far more often than others, and the cache had no room for all.",
        {"cache": cache.cache_needs_reuse},
    ),
    Claim(
        "cache-needs-stability",
        "It pays for data that rarely changes.",
        "잘 변하지 않는 데이터.",
        ("cache",),
        "It would hold where one entry shows many products, so that a change costs more than the one read after it.",
        {"cache": cache.cache_needs_stability},
    ),
    Claim(
        "cache-relieves-origin",
        "It takes reads, connections and CPU off origin and application.",
        "커넥션, CPU와 메모리 리소스를 줄인다.",
        ("cache",),
        "It would hold at a higher hit ratio, or where a query costs the origin more than a miss costs the cache.",
        {"cache": cache.cache_relieves_origin},
    ),
    Claim(
        "cache-scales",
        "The application can scale, too.",
        "애플리케이션의 확장 또한 가능하다.",
        ("cache",),
        "It would hold where the origin's CPU, and not the web servers', is what ends first.",
        {"cache": cache.cache_scales},
    ),
    Claim(
        "cache-survives-origin",
        "Even when the origin fails, data can come from the cache.",
        "원본 저장소에 장애가 발생해도 캐시에서 데이터를 가지고 올 수 있다.",
        ("cache",),
        "It would hold if what is asked for lay in the cache, and what does not were refused at once.",
        {"cache": cache.cache_survives_origin},
    ),
)
