"""What a web server in a container is told, and what it says of what it cannot use."""

from __future__ import annotations

import pytest

from lab.probes.traffic import SESSIONS_APPLICATION
from lab.servers.environment import EnvironmentWrong, cookie_name, read
from strategies import STRATEGIES

LEAST = {"STRATEGY": "redis", "SECRET_KEY": "k"}


def test_what_is_not_set_has_a_default_that_reaches_nobody():
    """Set to nothing counts as not set, as a compose file hands on variables that nobody has set."""
    told = read(LEAST | {"WRITES": "", "SERVERS": "", "HOME": "/"})
    assert (told.writes, told.servers, told.listen, told.lab_secret) == ("fields", 4, "127.0.0.1", "")


def test_passwords_lead_to_the_projects_own_stores_and_addresses_to_others():
    """The password alone is enough; who has engines of their own names them."""
    own = read(LEAST | {"REDIS_PASSWORD": "r", "POSTGRES_PASSWORD": "p"}).store_settings("web-2")
    assert own.redis_url == "redis://:r@redis:6379/0"
    assert "password=p" in own.database_url
    assert f"application_name={SESSIONS_APPLICATION}" in own.database_url
    other = read(LEAST | {"REDIS_URL": "rediss://there", "DATABASE_URL": "postgresql://me@there/x"})
    assert other.store_settings("web-2").redis_url == "rediss://there"
    assert other.origin_url() == "postgresql://me@there/x"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"STRATEGY": ""}, "STRATEGY is not set"),
        ({"SECRET_KEY": ""}, "SECRET_KEY is not set"),
        ({"STRATEGY": "redsi"}, "expected one of: isolated"),
        ({"SERVERS": "many"}, "SERVERS is 'many'"),
        ({"WRITES": "bolb"}, "WRITES is 'bolb'"),
        ({"IDLE_SECONDS": "x"}, "IDLE_SECONDS is 'x'"),
        ({"IDLE_SECONDS": "0"}, "IDLE_SECONDS is '0': Expected `float` > 0"),
        ({"STRATEGY": "all-to-all", "WRITES": "versioned"}, "all-to-all cannot promise; expected: fields, blob"),
    ],
)
def test_what_cannot_be_used_is_one_clear_line(given, says):
    """It names the variable, and what was expected."""
    with pytest.raises(EnvironmentWrong) as raised:
        read(LEAST | given)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_cookie_names_differ_and_are_equally_long():
    """Cookies do not know ports, and a longer name would be traffic that others do not have."""
    names = [cookie_name(strategy) for strategy in STRATEGIES]
    assert len(set(names)) == len(names)
    assert len({len(name) for name in names}) == 1
