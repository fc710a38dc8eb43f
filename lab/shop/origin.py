"""The origin database as the routes reach it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flask import current_app

if TYPE_CHECKING:
    from lab.shop.catalogue import Catalogue


def catalogue() -> Catalogue:
    """Return the catalogue of the shop that answers this request."""
    return cast("Catalogue", current_app.extensions["catalogue"])
