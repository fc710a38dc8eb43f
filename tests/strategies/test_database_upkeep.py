"""What sessions in PostgreSQL leave behind, and who removes it: expired rows, dead rows, pieces of large sessions."""

from __future__ import annotations

import base64
import os
import secrets
import threading

import psycopg
import pytest
from faults import open_when_up
from records import SECRET_HASH, begin, new_handle, packed, shown
from waiting import at_once, wait_until

from lab.engines.postgresql import PostgreSQL
from strategies import database
from strategies.contract import Changes, NewSession, StoreSettings
from strategies.database import DatabaseStore

QUIET_SECONDS = 3600.0
"""No sweep comes but those that a test asks for."""

FIELDS = 20

CONNECTIONS = StoreSettings().database_connections


@pytest.fixture
def namespace():
    """Return a table's name of the test's own."""
    return f"test_{secrets.token_hex(6)}"


@pytest.fixture
def open_store(database_url, namespace):
    """Return a factory of stores on one table; they sweep when they are told to."""
    opened = []

    def open_store(application="web", **settings):
        url = psycopg.conninfo.make_conninfo(database_url, application_name=application)
        settings = {"sweep_seconds": QUIET_SECONDS, "timeout_seconds": 60.0} | settings
        opened.append(DatabaseStore.open(StoreSettings(database_url=url, namespace=namespace, **settings)))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


@pytest.fixture
def connection(database_url):
    """Return a connection for looking into the database."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def holder(database_url):
    """Return a connection for holding locks; what others do meanwhile shows on another connection only."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def expire(connection, namespace, count, width=0):
    """Add sessions that have expired, each of this many bytes at least."""
    connection.execute(
        f"""INSERT INTO "{namespace}"
            SELECT 'old-' || i, 1, repeat('x', {width}), '', '{{}}', now() - interval '1 s', now()
            FROM generate_series(1, {count}) AS i"""
    )


def left(connection, namespace):
    """Return how many expired rows there still are, those of an unfinished sweep included."""
    query = f"""SELECT count(*) FROM "{namespace}" WHERE idle_deadline <= now()"""
    return connection.execute(query).fetchone()[0]


def sweep_all(store):
    """Go round the table once."""
    while store._sweep():
        pass


def log_batches(connection, namespace):
    """Have PostgreSQL write down how many rows each statement deletes; `slow` servers are held up in theirs."""
    connection.execute(
        f"""
        CREATE TABLE "{namespace}_log" (server text, rows int);
        CREATE FUNCTION "{namespace}_note"() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO "{namespace}_log" SELECT current_setting('application_name'), count(*) FROM gone;
            IF current_setting('application_name') = 'slow' THEN
                PERFORM pg_advisory_xact_lock(hashtext('{namespace}'));
            END IF;
            RETURN NULL;
        END $$;
        CREATE TRIGGER note AFTER DELETE ON "{namespace}" REFERENCING OLD TABLE AS gone
            FOR EACH STATEMENT EXECUTE FUNCTION "{namespace}_note"();
        """
    )


def batches(connection, namespace):
    """Return how many rows each statement deleted, where it deleted any."""
    return [rows for (rows,) in connection.execute(f'SELECT rows FROM "{namespace}_log" WHERE rows > 0')]


class TestSweeping:
    """Expired sessions are removed, and nobody waits for it."""

    def test_live_ones_stay(self, open_store, connection, namespace):
        """A server removes what has expired by itself, more than one batch of it, and leaves what is alive."""
        store = open_store(sweep_seconds=0.05)
        alive = begin(store, a=1)
        expire(connection, namespace, 450)
        wait_until(lambda: not left(connection, namespace), seconds=20.0)
        assert shown(store, alive) == {"a": 1}

    def test_small_batches(self, open_store, connection, namespace):
        """Of ten thousand expired sessions no statement removes more than a batch, whoever sweeps; none is left."""
        stores = [open_store(sweep_seconds=0.01) for _ in range(3)]
        log_batches(connection, namespace)
        expire(connection, namespace, 10_000)
        wait_until(lambda: not left(connection, namespace), seconds=40.0)
        for store in stores:
            store.close()
        removed = batches(connection, namespace)
        assert sum(removed) == 10_000
        assert max(removed) <= 200

    def test_bounded_reading(self, open_store, connection, namespace, monkeypatch):
        """A sweep walks through the table a stretch of pages at a time, and comes to its end, and begins anew."""
        monkeypatch.setattr(database, "_SWEEP_PAGES", 50)
        store = open_store()
        expire(connection, namespace, 1000, width=1900)
        plan = "EXPLAIN " + database._fill_in(database._SWEEP, store.settings)
        plan = plan.replace("$1", "'(0,0)'").replace("$2", "'(50,0)'")
        lines = [line for (line,) in connection.execute(plan)]
        assert [line for line in lines if "Tid Range Scan" in line]
        assert not [line for line in lines if "Seq Scan" in line]
        seen = []
        while store._sweep():
            seen.append(store._next_page)
        assert seen == sorted(seen)
        assert len(set(seen)) > 2
        assert left(connection, namespace) == 0
        expire(connection, namespace, 10)
        sweep_all(store)
        assert left(connection, namespace) == 0

    def test_servers_share_the_work(self, open_store, connection, holder, namespace):
        """While one server is held up in its batch, another removes all the rest without waiting, and shoppers shop.

        The held-up server's own shoppers have all its connections, as the sweep has one of its own.
        """
        slow, quick = open_store("slow"), open_store()
        alive = begin(slow, a=1)
        log_batches(connection, namespace)
        expire(connection, namespace, 450)
        held_up = threading.Thread(target=slow._sweep)
        with holder.transaction():
            holder.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (namespace,))
            held_up.start()
            wait_until(lambda: waiting(connection) == 1, seconds=20.0)
            sweep_all(quick)
            assert left(connection, namespace) == 200  # the batch that is under way
            at_once(*[lambda: [slow.load(alive) for _ in range(20)]] * CONNECTIONS)
            for store in (slow, quick):
                store.save(alive, Changes(set=packed(b=2)))
                store.touch(alive)
                quick.delete(begin(store, c=3))
            assert waiting(connection) == 1
        held_up.join()
        assert left(connection, namespace) == 0
        assert sorted(batches(connection, namespace))[-3:] == [50, 200, 200]
        assert shown(quick, alive) == {"a": 1, "b": 2}

    def test_a_sweep_takes_no_shoppers_connection(self, open_store, connection, holder, namespace):
        """With a sweep held up, and every connection but one waiting for a lock, the last still serves a shopper."""
        store = open_store("slow")
        locked, free = begin(store, a=1), begin(store, a=1)
        log_batches(connection, namespace)
        expire(connection, namespace, 1)
        busy = [threading.Thread(target=store._sweep)]
        busy += [threading.Thread(target=store.touch, args=(locked,)) for _ in range(CONNECTIONS - 1)]
        with holder.transaction():
            holder.execute(f'SELECT 1 FROM "{namespace}" WHERE handle = %s FOR UPDATE', (locked,))
            holder.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (namespace,))
            for thread in busy:
                thread.start()
            wait_until(lambda: waiting(connection) == len(busy), seconds=20.0)
            assert shown(store, free) == {"a": 1}
            assert waiting(connection) == len(busy)
        for thread in busy:
            thread.join()

    def test_a_save_under_way_is_not_waited_for(self, open_store, connection, namespace):
        """A row that somebody holds is left for the next round; the others go."""
        store = open_store()
        expire(connection, namespace, 20)
        with connection.transaction():
            connection.execute(f"""SELECT 1 FROM "{namespace}" WHERE handle = 'old-7' FOR UPDATE""")
            sweep_all(store)
            assert left(connection, namespace) == 1
        sweep_all(store)
        assert left(connection, namespace) == 0

    def test_ends_with_the_store(self, open_store):
        """Closing the store ends its thread."""
        store = open_store()
        store.close()
        assert not store._sweeper._thread.is_alive()
        assert store._sweeper._thread not in threading.enumerate()


def waiting(connection):
    """Return how many statements of this database wait for a lock."""
    query = """SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend' AND wait_event_type = 'Lock'"""
    return connection.execute(query).fetchone()[0]


def random_field(total_bytes):
    """Return one of 20 fields of a session of this size, packed; nothing that could be compressed."""
    length = total_bytes // FIELDS - len("field-00")
    return b'"' + base64.b64encode(os.urandom(length))[: length - 2] + b'"'


def large(total_bytes):
    """Return the fields of a session of this size, packed."""
    return {f"field-{i:02}": random_field(total_bytes) for i in range(FIELDS)}


def create(store, total_bytes):
    """Create a session of this size; return its handle."""
    handle = new_handle()
    store.create(handle, NewSession(SECRET_HASH, large(total_bytes)))
    return handle


def counted(connection, namespace):
    """Return PostgreSQL's own counts: of the table, and of its TOAST relation."""
    columns = "n_tup_ins, n_tup_upd, n_tup_hot_upd, n_dead_tup, autovacuum_count"
    query = f"""SELECT {columns} FROM pg_stat_all_tables WHERE relid = %s::regclass
        UNION ALL SELECT {columns} FROM pg_stat_all_tables
            WHERE relid = (SELECT reltoastrelid FROM pg_class WHERE oid = %s::regclass)"""
    names = ("inserted", "updated", "hot", "dead", "vacuums")
    return [dict(zip(names, row, strict=True)) for row in connection.execute(query, (namespace, namespace))]


def sizes(connection, namespace):
    """Return the bytes of the table and of its TOAST relation."""
    query = """SELECT pg_relation_size(oid), pg_relation_size(reltoastrelid) FROM pg_class WHERE oid = %s::regclass"""
    return connection.execute(query, (namespace,)).fetchone()


class TestDeadRows:
    """Every save and every touch leaves a dead version of the row behind."""

    def test_saves_stay_on_their_page(self, open_store, connection, namespace):
        """More than nine of ten saves of 1 KB are HOT updates, and the table hardly grows, without any vacuum."""
        store = open_store()
        connection.execute(f'ALTER TABLE "{namespace}" SET (autovacuum_enabled = off)')
        handles = [create(store, 1024) for _ in range(40)]
        store.close()
        wait_until(lambda: counted(connection, namespace)[0]["inserted"] == 40)
        heap_bytes, _ = sizes(connection, namespace)
        store = open_store()

        def save(thread):
            for handle in handles * 6:
                store.save(handle, Changes(set={f"field-{thread:02}": random_field(1024)}))

        at_once(*[lambda thread=thread: save(thread) for thread in range(CONNECTIONS)])
        store.close()  # its connections hand in their counts
        saves = 40 * 6 * CONNECTIONS
        wait_until(lambda: counted(connection, namespace)[0]["updated"] == saves)
        heap, toast = counted(connection, namespace)
        assert heap["hot"] > 0.9 * saves
        assert toast["inserted"] == 0
        assert sizes(connection, namespace)[0] < heap_bytes + saves * 1024 / 4

    def test_touches_leave_the_pieces_alone(self, open_store, connection, namespace):
        """Touching a session of 48 KB writes one small row on its page, and none of its pieces anew."""
        store = open_store()
        handle = create(store, 48 * 1024)
        store.close()
        wait_until(lambda: counted(connection, namespace)[0]["inserted"] == 1)
        heap_before, toast_before = counted(connection, namespace)
        assert toast_before["inserted"] > 20
        store = open_store()
        for _ in range(50):
            store.touch(handle)
        store.close()
        wait_until(lambda: counted(connection, namespace)[0]["updated"] == 50)
        heap, toast = counted(connection, namespace)
        assert heap["hot"] - heap_before["hot"] >= 45
        assert toast["inserted"] == toast_before["inserted"]


class TestVacuum:
    """On a PostgreSQL of its own, which looks every second for what there is to vacuum, and not once a minute."""

    engine_class = PostgreSQL
    store_class = DatabaseStore

    def test_pieces_of_large_sessions_do_not_pile_up(self, engine, open_own_store):
        """The TOAST relation is vacuumed after a twentieth of it has died, so that it grows by little and no more.

        By PostgreSQL's default that would be a fifth: a fifth of all sessions, however many there are.
        """
        engine.kill()
        engine.revive("-c", "autovacuum_naptime=1s", "-c", "fsync=off")  # many sessions, soon
        store = open_when_up(open_own_store, timeout_seconds=20.0)
        namespace = store.settings.namespace
        handles = [create(store, 48 * 1024) for _ in range(500)]
        with psycopg.connect(engine.url, autocommit=True) as connection:
            connection.execute(f'VACUUM ANALYZE "{namespace}"')
            _, live_bytes = sizes(connection, namespace)
            for start in range(0, 240, 80):  # each time a sixth of what there is dies
                vacuums = counted(connection, namespace)[1]["vacuums"]
                for handle in handles[start : start + 80]:
                    store.save(handle, Changes(set={"field-00": random_field(48 * 1024)}))
                store._connections.close()  # they hand in their counts
                wait_until(lambda v=vacuums: counted(connection, namespace)[1]["vacuums"] > v, seconds=40.0)
            _, after_bytes = sizes(connection, namespace)
            assert after_bytes < 1.3 * live_bytes

    def test_vacuum_is_not_slowed_down(self, engine, open_own_store):
        """Vacuum of the pieces runs at full speed: slowed down, it falls behind a load of large sessions."""
        store = open_when_up(open_own_store)
        with psycopg.connect(engine.url) as connection:
            query = """SELECT reloptions FROM pg_class
                WHERE oid = (SELECT reltoastrelid FROM pg_class WHERE oid = %s::regclass)"""
            (options,) = connection.execute(query, (store.settings.namespace,)).fetchone()
        assert "autovacuum_vacuum_cost_delay=0" in options
