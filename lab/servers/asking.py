"""How the lab asks a server's internal routes."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import msgspec
    import requests

ANSWER_SECONDS = 10.0
"""How long an answer may take."""

TRIES = 5
"""How often a server is asked that says it cannot tell now."""

PAUSE_SECONDS = 2.0
"""Between two of them."""

_Made = TypeVar("_Made")


def ask(http: requests.Session, url: str, answer: msgspec.json.Decoder[_Made]) -> _Made:
    """Return what an internal route answers.

    A store bounds its own waits, so that on a busy machine a server may have to answer 5xx. None of these questions
    changes or times anything, and a run of many minutes must not end of one: it is asked again, a few times.

    Raises:
        RequestException: there is no answer, or none but refusals.
        DecodeError: it is none of the expected form.
    """
    response = http.get(url, timeout=ANSWER_SECONDS)
    for _ in range(TRIES - 1):
        if response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            break
        time.sleep(PAUSE_SECONDS)
        response = http.get(url, timeout=ANSWER_SECONDS)
    response.raise_for_status()
    return answer.decode(response.content)
