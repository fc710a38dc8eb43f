"""What holds for every request and response: who answered, security headers, foreign forms, errors."""

from __future__ import annotations

from http import HTTPStatus
from typing import cast

import msgspec
from flask import Flask, Response, render_template, request
from werkzeug.exceptions import Forbidden, HTTPException, NotFound, ServiceUnavailable

from lab.shop.catalogue import CatalogueUnavailable, UnknownProduct
from lab.shop.inputs import MAX_BODY_BYTES

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_PLAIN = {
    404: "there is nothing at this address",
    405: "this address does not take that method",
    413: f"a request's body has at most {MAX_BODY_BYTES} bytes",
    500: "something went wrong on our side",
}

_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}


class GuardedFlask(Flask):
    """A Flask application that refuses foreign forms, explains its errors and signs its responses.

    Args:
        import_name: as for Flask.
        server: the name of this server, for `X-Served-By`.
    """

    def __init__(self, import_name: str, server: str) -> None:
        super().__init__(import_name)
        self.server = server
        self.before_request(refuse_foreign_forms)
        self.register_error_handler(HTTPException, explain)
        self.register_error_handler(UnknownProduct, lambda error: explain(NotFound(str(error.args[0]))))
        self.register_error_handler(CatalogueUnavailable, lambda error: explain(ServiceUnavailable(str(error))))

    def process_response(self, response: Response) -> Response:
        """Let Flask save the session, which may turn the response into an error; then see to what holds for all."""
        response = super().process_response(response)
        response.headers["X-Served-By"] = self.server
        response.headers["X-Content-Type-Options"] = "nosniff"
        if response.status_code >= HTTPStatus.BAD_REQUEST and response.is_json and not _is_program():
            _make_page(response, (response.get_json() or {}).get("error", ""))
        if response.mimetype == "text/html":
            response.headers.update(_PAGE_HEADERS)
        return response


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


def explain(error: HTTPException) -> Response:
    """Answer an error in the language of whoever asked: JSON under `/api`, a page elsewhere."""
    response = cast("Response", error.get_response())
    if not response.is_json:
        response.content_type = "application/json"
        response.set_data(msgspec.json.encode({"error": _in_plain_words(error)}))
    return response


def _is_program() -> bool:
    return request.path.startswith("/api/")


def _make_page(response: Response, text: str) -> None:
    """Turn an answer for programs into one for people, in place."""
    status = HTTPStatus(response.status_code)
    response.content_type = "text/html; charset=utf-8"
    response.set_data(render_template("error.html", status=status.value, name=status.phrase, message=text))


def _in_plain_words(error: HTTPException) -> str:
    if error.description == type(error).description:
        return _PLAIN.get(error.code or 500, error.description or error.name)
    return error.description or error.name
