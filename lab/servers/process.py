"""One web server: the shop on a public port, and the lab's and the peers' routes on an internal one."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

import msgspec

from lab.servers.internal import internal_app
from lab.servers.listener import PEERS, SHOPPERS, listen
from lab.servers.plan import Descriptors, Report, ServerPlan
from lab.shop.app import ShopConfig, create_shop
from strategies import load_store_class
from strategies.session_interface import ServerSideSessions

if TYPE_CHECKING:
    from lab.shop.catalogue import Catalogue
    from strategies.contract import SessionStore


def main(plan: ServerPlan, descriptors: Descriptors, lifelines: tuple[int, ...]) -> NoReturn:
    """Serve until SIGTERM, or until a lifeline ends; never return to the fork server's code.

    Args:
        plan: see there.
        descriptors: the open files that came with it.
        lifelines: pipes that end with the lab and with the fork server, and this process with them.
    """
    status = 1
    try:
        _write_log_to(plan.log)
        signal.signal(signal.SIGTERM, _leave)
        threading.Thread(target=_die_with, args=lifelines, name="lifelines", daemon=True).start()
        _serve(plan, descriptors)
        status = 0
    except BaseException as error:  # whatever it is, the lab hears of it
        logging.getLogger("lab.servers").exception("the server ends")
        _say(descriptors.report, Report(f"{type(error).__name__}: {' '.join(str(error).split())}"))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _serve(plan: ServerPlan, descriptors: Descriptors) -> None:
    store = load_store_class(plan.strategy).open(plan.settings)
    sessions = ServerSideSessions(store, plan.writes, lab_headers=True)
    origin: list[Catalogue] = []  # the peers are served before there is a shop
    inner = listen(internal_app(store, sessions.losses, origin), socket.socket(fileno=descriptors.internal), **PEERS)
    threading.Thread(target=inner.run, name="internal", daemon=True).start()
    _join(store)
    config = ShopConfig(
        server=plan.server,
        servers=plan.servers,
        secret_key=plan.secret_key,
        cookie_name=plan.cookie_name,
        database_url=plan.shop_database_url,
        cache=plan.cache,
    )
    shop = create_shop(config, sessions)
    origin.append(shop.extensions["catalogue"])
    outer = listen(shop, socket.socket(fileno=descriptors.public), **SHOPPERS)
    _say(descriptors.report, Report())
    outer.run()  # returns on SIGTERM, after the requests under way
    store.close()


def _join(store: SessionStore) -> None:
    """Fetch the peers' sessions before the first shopper comes, where servers hold copies."""
    join = getattr(store, "join", None)
    if join is not None:
        join()


def _write_log_to(path: str) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a queue is what load looks like


def _die_with(*lifelines: int) -> NoReturn:
    select.select(lifelines, [], [])  # nobody ever writes: readable means ended
    os._exit(0)


def _leave(*_: object) -> NoReturn:
    raise SystemExit


def _say(pipe: int, report: Report) -> None:
    os.write(pipe, msgspec.json.encode(report) + b"\n")
