"""What the other servers of a cluster see, as capability mixins: everything, or nothing."""

from __future__ import annotations

import pytest
from records import begin, packed, shown
from waiting import at_once

import strategies
from strategies.contract import Changes, SessionGone


class Shared:
    """What one server saves, the others see."""

    def test_seen_by_others(self, cluster):
        """Creation, saves, rotation and deletion on one server show on another, with their origin."""
        one, two = cluster.open("web-1"), cluster.open("web-2")
        handle = begin(one, a=1)
        cluster.settle()
        assert shown(two, handle) == {"a": 1}
        two.save(handle, Changes(set=packed(b=2), secret_hash="new"))
        cluster.settle()
        record = one.load(handle)
        assert record.fields == packed(a=1, b=2)
        assert (record.secret_hash, record.origin) == ("new", "web-2")
        one.delete(handle)
        cluster.settle()
        assert two.load(handle) is None
        with pytest.raises(SessionGone):
            two.save(handle, Changes(set=packed(c=3)))

    def test_counted_by_every_server(self, cluster):
        """Every server lists the session; where that is no copy of its own, the registry names the place they share."""
        one, two = cluster.open("web-1"), cluster.open("web-2")
        handle = begin(one, a=1)
        cluster.settle()
        assert handle in one.census().handles
        assert handle in two.census().handles
        known = strategies.find(self.strategy)
        assert known.copies == "N" or known.needs or known.shared, (
            f"each server would count as a copy: give {known.name} in STRATEGIES a shared=…, the name of the one place"
        )

    def test_writers_on_two_servers(self, cluster):
        """Writers of different fields on two servers at once lose nothing of each other's."""
        stores = cluster.open("web-1"), cluster.open("web-2")
        handle = begin(stores[0])
        cluster.settle()

        def work(which):
            for i in range(15):
                stores[which].save(handle, Changes(set=packed(**{f"{which}-{i}": i})))

        at_once(lambda: work(0), lambda: work(1))
        cluster.settle()
        expected = {f"{which}-{i}": i for which in range(2) for i in range(15)}
        assert shown(stores[0], handle) == shown(stores[1], handle) == expected

    def test_outlives_a_server(self, cluster):
        """A session is still there when the server that created it is gone."""
        one, two = cluster.open("web-1"), cluster.open("web-2")
        handle = begin(one, a=1)
        cluster.settle()
        one.close()
        assert shown(two, handle) == {"a": 1}


class Alone:
    """Each server has a memory of its own."""

    def test_unseen_by_others(self, cluster):
        """Another server knows nothing of the session, and cannot be made to save it."""
        one, two = cluster.open("web-1"), cluster.open("web-2")
        handle = begin(one, a=1)
        assert two.load(handle) is None
        with pytest.raises(SessionGone):
            two.save(handle, Changes(set=packed(a=2)))
        assert shown(one, handle) == {"a": 1}
