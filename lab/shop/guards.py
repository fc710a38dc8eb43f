"""What holds for every request and response: who answered, security headers, foreign forms, errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response, request
from werkzeug.exceptions import Forbidden, HTTPException, InternalServerError, NotFound, ServiceUnavailable

from lab.shop.api import answer
from lab.shop.catalogue import CatalogueUnavailable, UnknownProduct

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.sansio.response import Response as AnyResponse

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}


def protect(app: Flask, server: str) -> None:
    """Make an application refuse foreign forms, explain its errors and sign its responses.

    Args:
        app: the application.
        server: the name of this server, for `X-Served-By`.
    """

    def sign(response: Response) -> Response:
        response.headers["X-Served-By"] = server
        response.headers["X-Content-Type-Options"] = "nosniff"
        if response.mimetype == "text/html":
            response.headers.update(_PAGE_HEADERS)
        return response

    app.before_request(refuse_foreign_forms)
    app.after_request(sign)
    app.register_error_handler(HTTPException, explain)
    app.register_error_handler(UnknownProduct, lambda error: explain(NotFound(str(error.args[0]))))
    app.register_error_handler(CatalogueUnavailable, lambda error: explain(ServiceUnavailable(str(error))))


def refuse_foreign_forms() -> None:
    """Refuse a write that a browser sends for another site's page.

    Browsers say where a request comes from, in `Sec-Fetch-Site` or `Origin`; programs send neither and are let
    through, since nobody else's cookie is in their jar. See OWASP, Cross-Site Request Forgery Prevention, "Fetch
    Metadata headers". A balancer in front must pass the `Host` header on unchanged.

    Raises:
        Forbidden: it comes from elsewhere.
    """
    if request.method in _SAFE_METHODS:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        foreign = site not in {"same-origin", "none"}
    else:
        foreign = origin is not None and origin.partition("://")[2] != request.host
    if foreign:
        raise Forbidden("this request comes from another site's page")


def explain(error: HTTPException) -> AnyResponse:
    """Answer an error in the language of whoever asked: JSON under `/api`, a page elsewhere."""
    if error.response is not None:
        return error.response
    original = getattr(error, "original_exception", None)
    text = "something went wrong on our side" if original else error.description
    status = error.code or InternalServerError.code
    return answer({"error": text}, status)
