"""What the shop accepts: every input is checked here, before anything else happens to it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar, cast

import msgspec
from msgspec import Meta
from werkzeug.exceptions import BadRequest
from werkzeug.routing import BaseConverter

MAX_BODY_BYTES = 16 * 1024
"""Largest body that is read; a larger one is refused with 413."""

_LARGEST_ID = 2**31 - 1
_LARGEST_PAGE = 100_000
_LONGEST_SEARCH = 80
_MOST_WORDS = 8

Token = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.:-]{1,64}\Z")]
ProductId = Annotated[int, Meta(ge=1, le=_LARGEST_ID)]
Quantity = Annotated[int, Meta(ge=1, le=99)]
PageKind = Literal["list", "search", "product", "cart", "login", "order"]

MAX_QUANTITY = 99
"""The most pieces of one cart line."""


class Add(msgspec.Struct):
    """Put a product into the cart, as a line of its own named by the client's token."""

    token: Token
    product: ProductId
    quantity: Quantity = 1


class Visit(msgspec.Struct):
    """A page was left, after so many seconds."""

    page: PageKind
    seconds: Annotated[float, Meta(ge=0, le=86_400)]
    product: ProductId | None = None


class Login(msgspec.Struct):
    """Log in. There is no password: this is a shop to experiment with."""

    user: Annotated[str, Meta(min_length=1, max_length=40)]

    def __post_init__(self) -> None:
        """Refuse names that nobody could read."""
        if not self.user.isprintable() or not self.user.strip():
            raise ValueError("a name has 1 to 40 printable characters")


class Checkout(msgspec.Struct):
    """Order what is in the cart, once per token."""

    token: Token


_Input = TypeVar("_Input", Add, Visit, Login, Checkout)

# Made here, before there are threads: msgspec works out a type at its first use, and two threads that come first
# together make the process crash.
_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (Add, Visit, Login, Checkout)
}


def from_json(body: bytes, kind: type[_Input]) -> _Input:
    """Return a JSON body as the input it should be.

    Raises:
        BadRequest: it is not; the text says where and why.
    """
    try:
        return cast("_Input", _DECODERS[kind].decode(body))
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from None


def from_form(form: dict[str, str], kind: type[_Input]) -> _Input:
    """Return the fields of an HTML form as the input they should be.

    Raises:
        BadRequest: they are not; the text says where and why.
    """
    try:
        return msgspec.convert(form, type=kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from None


def page_number(text: str) -> int:
    """Return the number of a page of the list.

    Raises:
        BadRequest: it is not a number from 1.
    """
    if re.fullmatch(r"[0-9]{1,6}", text) and 1 <= int(text) <= _LARGEST_PAGE:
        return int(text)
    raise BadRequest(f"page is a number from 1 to {_LARGEST_PAGE}")


def search_words(text: str) -> list[str]:
    """Return the words of a search, letters and digits only.

    Raises:
        BadRequest: the text is longer than a search should be, or has no word in it.
    """
    if len(text) > _LONGEST_SEARCH:
        raise BadRequest(f"a search has at most {_LONGEST_SEARCH} characters")
    words = re.findall(r"[^\W_]+", text.lower())[:_MOST_WORDS]
    if not words:
        raise BadRequest("a search needs at least one word (q=...)")
    return words


class TokenConverter(BaseConverter):
    """A cart line's token in an address."""

    regex = r"[A-Za-z0-9_.:-]{1,64}"
