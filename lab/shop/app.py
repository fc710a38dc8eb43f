"""The shop: one Flask application, the same whatever keeps its sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from flask import Flask

from lab.shop import guards, inputs
from lab.shop.api import api
from lab.shop.catalogue import Catalogue

if TYPE_CHECKING:
    from flask.sessions import SessionInterface


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
    """

    server: str
    servers: tuple[str, ...]
    secret_key: str
    cookie_name: str
    database_url: str
    pool_size: int = 4


def create_shop(config: ShopConfig, sessions: SessionInterface) -> Flask:
    """Make the shop for one server. Call it after forking: it opens connections.

    Args:
        config: see there.
        sessions: keeps the sessions.
    """
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY=config.secret_key,
        SESSION_COOKIE_NAME=config.cookie_name,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_PATH="/",
        MAX_CONTENT_LENGTH=inputs.MAX_BODY_BYTES,
    )
    app.session_interface = sessions
    app.extensions["catalogue"] = Catalogue(config.database_url, config.pool_size)
    app.url_map.converters.update(product=inputs.ProductConverter, token=inputs.TokenConverter)
    guards.protect(app, config.server)
    app.register_blueprint(api)
    return app
