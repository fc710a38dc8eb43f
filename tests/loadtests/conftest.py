"""A little shop and a load generator's process."""

import sys
from itertools import count
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from little_shop import LittleShop

from loadtests.client import ArmTarget, Generator

_arms = count()


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    """One generator process for a file's tests; each opens arms of its own."""
    with Generator(tmp_path_factory.mktemp("load") / "generator.log") as generator:
        yield generator


@pytest.fixture
def shop():
    """A shop that nobody has visited."""
    with LittleShop() as shop:
        yield shop


@pytest.fixture
def open_arm(generator):
    """Open an arm of its own on some shops (the first serves as the balancer) and give its name."""

    def open_arm(*shops, **changes):
        arm = f"arm-{next(_arms)}"
        settings = {"url": shops[0].url if shops else None, "server_urls": {shop.name: shop.url for shop in shops}}
        generator.open(ArmTarget(arm=arm, strategy="little", cookie_name=LittleShop.cookie_name, **settings | changes))
        return arm

    return open_arm
