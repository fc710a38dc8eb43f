"""Sessions in PostgreSQL: layout, round trips by the server's own log, and what jsonb cannot hold."""

from __future__ import annotations

import secrets
import socket
import traceback

import hypothesis
import msgspec
import psycopg
import pytest
from behind_flask import Shop
from faults import EngineFails, open_when_up
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo
from records import SECRET_HASH, begin, canonical, new_handle, packed, shown
from waiting import at_once, wait_until

from lab.engines.postgresql import PostgreSQL
from strategies.contract import Changes, NewSession, StoreSettings, StoreUnavailable
from strategies.database import DatabaseStore

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(["$json", "\0", "1e5", ",1e5", "-0.0", "\\u0000"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=12,
)


OTHERS = "backend_type = 'client backend' AND pid <> pg_backend_pid()"


@pytest.fixture
def namespace():
    """Return a table's name of the test's own."""
    return f"test_{secrets.token_hex(6)}"


@pytest.fixture
def store(database_url, namespace):
    """Return a store with a table of its own."""
    store = DatabaseStore.open(StoreSettings(database_url=database_url, namespace=namespace))
    yield store
    store.close()


@pytest.fixture
def connection(database_url):
    """Return a connection for looking into the database."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


class TestPostgreSQLFails(EngineFails):
    """PostgreSQL pauses, dies and comes back."""

    engine_class = PostgreSQL
    store_class = DatabaseStore

    def test_refused_writes(self, engine, open_own_store):
        """A server that only reads, as a standby does, is unavailable for writes and serves reads; then all goes on."""
        store = open_when_up(open_own_store, timeout_seconds=5.0)
        handle = begin(store, a=1)
        with psycopg.connect(engine.url, autocommit=True) as connection:
            connection.execute("ALTER ROLE lab SET default_transaction_read_only = on")
            connection.execute(f"SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE {OTHERS}")
            for write in (
                lambda: store.save(handle, Changes(set=packed(a=2, b=2))),
                lambda: store.create(new_handle(), NewSession(SECRET_HASH, packed(a=1))),
            ):
                with pytest.raises(StoreUnavailable, match="read-only"):
                    write()
            assert shown(store, handle) == {"a": 1}
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER ROLE lab RESET default_transaction_read_only")
            connection.execute(f"SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE {OTHERS}")
        store.save(handle, Changes(set=packed(b=2)))
        assert shown(store, handle) == {"a": 1, "b": 2}


def test_refusals_tell_nothing_of_the_session(store):
    """What a refusal says, and a log may keep, is one line without a field's name or value."""
    handle = begin(store, a=1)
    with pytest.raises(StoreUnavailable, match="SQLSTATE") as refused:
        store.save(handle, Changes(set={"a diagnosis": b"not JSON"}))
    assert "diagnosis" not in str(refused.value)
    assert "not JSON" not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert shown(store, handle) == {"a": 1}


def test_layout(store, connection, namespace):
    """A session is one row whose fields SQL can look into."""
    handle = begin(store, user="ann", **{"cart:1": {"product": 7, "quantity": 2}})
    row = connection.execute(
        f"""SELECT version, origin, secret_hash, data->>'user', (data->'cart:1'->>'quantity')::int,
            idle_deadline < absolute_deadline FROM "{namespace}" WHERE handle = %s""",
        (handle,),
    ).fetchone()
    assert row == (1, "web-1", SECRET_HASH, "ann", 2, True)


def test_no_index_on_what_requests_change(store, connection, namespace):
    """No index of the table holds a column that a save, a login or a touch changes, or an expression of one."""
    handle = begin(store, a=1)

    def columns():
        row = connection.execute(f'SELECT to_jsonb(s) FROM "{namespace}" AS s WHERE handle = %s', (handle,)).fetchone()
        return row[0]

    before = columns()
    store.save(handle, Changes(set=packed(a=2), secret_hash="new"))
    store.touch(handle)
    changed = {name for name, value in columns().items() if value != before[name]}
    assert changed >= {"version", "secret_hash", "data", "idle_deadline"}
    indexes = connection.execute(
        """SELECT pg_get_indexdef(indexrelid), indexprs IS NULL AND indpred IS NULL,
               ARRAY(SELECT attname::text FROM pg_attribute
                   WHERE attrelid = indrelid AND attnum = ANY (indkey::int2[]))
           FROM pg_index WHERE indrelid = %s::regclass""",
        (namespace,),
    ).fetchall()
    assert indexes
    for definition, is_of_plain_columns, columns_in_it in indexes:
        assert is_of_plain_columns, definition
        assert columns_in_it, definition
        assert not changed & set(columns_in_it), definition


@hypothesis.settings(
    max_examples=60, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(name=st.text(st.characters(exclude_categories=["Cs"])), value=JSON)
def test_any_json(store, name, value):
    """Every field that JSON can write comes back equal, of the same types, and of the same length."""
    value = msgspec.json.decode(msgspec.json.encode(value))
    field = {name: msgspec.json.encode(value)}
    handle = secrets.token_urlsafe(16)
    store.create(handle, NewSession(SECRET_HASH, field))
    store.save(handle, Changes(set=field, deleted=frozenset(field)))
    ((name_back, packed_back),) = store.load(handle).fields.items()
    assert (name_back, len(packed_back)) == (name, len(field[name]))
    assert repr(canonical(msgspec.json.decode(packed_back))) == repr(canonical(value))


def test_round_trips(database_url, namespace, postgresql_engine):
    """The server's own log has one statement for a read, two for a write, one for a first write, none if untouched."""
    if postgresql_engine.pid is None:
        pytest.skip("the log of the PostgreSQL in LAB_DATABASE_URL cannot be read from here")
    url = psycopg.conninfo.make_conninfo(database_url, options="-c log_statement=all -c log_min_messages=log")
    store = DatabaseStore.open(StoreSettings(database_url=url, namespace=namespace))
    shop = Shop(store)
    cookie = shop.begin(a=1)
    log = postgresql_engine._process.log

    def cost(cookie, action):
        before = log.read_text().count("execute ")
        shop.do(cookie, action)
        lines = log.read_text().splitlines()
        statements = [line for line in lines if "execute " in line]
        return [line.split("execute ")[1].split(":")[0] for line in statements[before:]]

    assert cost(cookie, lambda _: None) == []
    assert cost(cookie, dict) == ["load"]
    assert cost(cookie, lambda session: session.update(a=2, b=3)) == ["load", "save"]
    assert cost(cookie, lambda session: [session.rotate(), session.pop("b")]) == ["load", "save"]
    assert cost(None, lambda session: session.update(a=1)) == ["create"]
    store.close()


def test_servers_that_start_together(database_url, namespace):
    """Many servers that open the same namespace at once all find one table."""
    settings = StoreSettings(database_url=database_url, namespace=namespace)
    stores = at_once(*[lambda: DatabaseStore.open(settings)] * 6)
    handle = begin(stores[0], a=1)
    assert all(shown(store, handle) == {"a": 1} for store in stores)
    for store in stores:
        store.close()


@pytest.mark.parametrize("most", [1, 3])
def test_bounded_connections(database_url, namespace, connection, most):
    """However many threads call, a server has the connections that it was given, and one for sweeps."""
    settings = StoreSettings(database_url=database_url, namespace=namespace, timeout_seconds=60.0)
    store = DatabaseStore.open(msgspec.structs.replace(settings, database_connections=most))
    handle = begin(store, a=1)
    at_once(*[lambda: [store.load(handle) for _ in range(20)]] * 16)
    store._sweep()
    query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE %s AND pid <> pg_backend_pid()"
    assert connection.execute(query, (f"%{namespace}%",)).fetchone()[0] <= most + 1
    store.close()


def test_connections_ended_by_the_server(store, connection):
    """Idle connections that the server has closed meanwhile are noticed before they are used."""
    handle = begin(store, a=1)
    at_once(*[lambda: [store.load(handle) for _ in range(20)]] * 4)
    pattern = f"%{store.settings.namespace}%"
    ended = connection.execute(
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
        " WHERE query LIKE %s AND pid <> pg_backend_pid()",
        (pattern,),
    ).fetchone()[0]
    assert ended >= 1
    assert shown(store, handle) == {"a": 1}


def test_locked_row(database_url, namespace, connection):
    """A save that another transaction holds up fails in time, and is not applied after all."""
    settings = StoreSettings(database_url=database_url, namespace=namespace, timeout_seconds=0.3)
    store = DatabaseStore.open(settings)
    handle = begin(store, a=1)
    with connection.transaction():
        connection.execute(f'SELECT 1 FROM "{namespace}" FOR UPDATE')
        with pytest.raises(StoreUnavailable):
            store.save(handle, Changes(set=packed(a=2)))
        wait_until(lambda: not waiting_for_locks(connection))
    assert shown(store, handle) == {"a": 1}
    store.close()


def waiting_for_locks(connection):
    """Return how many statements wait for a lock."""
    return connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0]


@pytest.mark.parametrize("namespace", ["", 'x"; DROP TABLE y; --', "a-b", "x" * 64, "ü"])
def test_names_of_tables(database_url, namespace):
    """A namespace that cannot name a table is refused."""
    with pytest.raises(StoreUnavailable, match="cannot name a table"):
        DatabaseStore.open(StoreSettings(database_url=database_url, namespace=namespace))


def test_no_url():
    """Without a URL the store says what is missing."""
    with pytest.raises(StoreUnavailable, match="database_url"):
        DatabaseStore.open(StoreSettings())


def test_dead_port():
    """A port where nobody listens is reported at once, in one line."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(StoreUnavailable):
        DatabaseStore.open(StoreSettings(database_url=f"postgresql://lab@127.0.0.1:{port}/postgres"))


@pytest.fixture
def role(connection, namespace):
    """Return a role that may use a schema, both of this name, and create nothing."""
    connection.execute(f"CREATE ROLE {namespace} LOGIN PASSWORD 'pass'; CREATE SCHEMA {namespace}")
    connection.execute(f"GRANT USAGE ON SCHEMA {namespace} TO {namespace}")
    yield namespace
    connection.execute(f"DROP SCHEMA {namespace} CASCADE; DROP ROLE {namespace}")


def test_role_that_may_not_create_tables(database_url, role, connection):
    """The table lives where the search path leads; once it is made, the rights to its rows are enough."""
    url = make_conninfo(database_url, options=f"-csearch_path={role}")
    made_by_another = StoreSettings(database_url=url, namespace=role)
    settings = StoreSettings(database_url=make_conninfo(url, user=role, password="pass"), namespace=role)
    with pytest.raises(StoreUnavailable, match=rf"permission denied for schema {role}\Z"):
        DatabaseStore.open(settings)
    DatabaseStore.open(made_by_another).close()
    with pytest.raises(StoreUnavailable, match=rf"permission denied for table {role}\Z"):
        DatabaseStore.open(settings)

    connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {role}.{role} TO {role}")
    store = DatabaseStore.open(settings)
    handle = begin(store, a=1)
    store._sweep()
    assert store.census().handles == (handle,)
    store.close()


def test_table_of_somebody_else(database_url, namespace, connection):
    """A table of that name that keeps something else, such as another library's sessions, is refused at once."""
    connection.execute(f"CREATE TABLE {namespace} (id serial, session_id text, data bytea)")
    with pytest.raises(StoreUnavailable, match=r'column "handle" does not exist.*choose another namespace'):
        DatabaseStore.open(StoreSettings(database_url=database_url, namespace=namespace))


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://a:secret@b/c", "mysql://a:secret@b/c", "postgresql://a:secret@b/c?d=e"]
)
def test_password_in_a_wrong_address(url):
    """An address that is none is refused without being shown: a password may be in it."""
    with pytest.raises(StoreUnavailable, match="no address that libpq understands") as refused:
        DatabaseStore.open(StoreSettings(database_url=url))
    assert "secret" not in "".join(traceback.format_exception(refused.value))
