"""The shop: one Flask application, the same whatever keeps its sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from flask import g

from lab.shop import inputs
from lab.shop.api import api
from lab.shop.cache import CacheSettings
from lab.shop.cached import CachedCatalogue
from lab.shop.catalogue import Catalogue
from lab.shop.guards import GuardedFlask
from lab.shop.pages import pages

if TYPE_CHECKING:
    from flask import Flask, Response
    from flask.sessions import SessionInterface

    from lab.shop.cache import Outcome

COLOURS = 8
"""How many servers have a colour of their own in `shop.css`; the ninth has the first one's again."""


class ShopConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What tells one server of one shop from another.

    Attributes:
        server: its name, such as `web-2`; every response carries it.
        servers: the names of all servers of the shop, in the order of their colours.
        secret_key: signs the cookies; the same on every server of a shop.
        cookie_name: the session cookie's name, another one for every shop on the same host, since cookies do not know
            ports.
        database_url: where PostgreSQL answers, after `catalogue.prepare`.
        pool_size: the most connections to PostgreSQL.
        cache: of products and searches; None for a shop without. Answers from it say so in `X-Cache`.
    """

    server: str
    servers: tuple[str, ...]
    secret_key: str
    cookie_name: str
    database_url: str
    pool_size: int = 4
    cache: CacheSettings | None = None


def create_shop(config: ShopConfig, sessions: SessionInterface) -> Flask:
    """Make the shop for one server. Call it after forking: it opens connections.

    Args:
        config: see there.
        sessions: keeps the sessions.
    """
    app = GuardedFlask(__name__, config.server)
    app.config.update(
        SECRET_KEY=config.secret_key,
        SESSION_COOKIE_NAME=config.cookie_name,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_PATH="/",
        MAX_CONTENT_LENGTH=inputs.MAX_BODY_BYTES,
    )
    app.session_interface = sessions
    app.extensions["catalogue"] = _catalogue(config)
    if config.cache:
        app.after_request(_say_how)
    app.url_map.converters["token"] = inputs.TokenConverter
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals.update(
        server=config.server, servers=config.servers, colour=config.servers.index(config.server) % COLOURS
    )
    app.jinja_env.filters["money"] = money
    app.register_blueprint(api)
    app.register_blueprint(pages)
    return app


def _catalogue(config: ShopConfig) -> Catalogue:
    if config.cache is None:
        return Catalogue(config.database_url, config.pool_size)
    return CachedCatalogue(config.database_url, config.cache, config.pool_size, note=_note)


def _note(outcome: Outcome) -> None:
    g.cache = outcome


def _say_how(response: Response) -> Response:
    if "cache" in g:
        response.headers["X-Cache"] = g.cache
    return response


def money(cents: int) -> str:
    """Return an amount of cents as a shop writes it."""
    return f"€\N{NO-BREAK SPACE}{cents / 100:,.2f}"
