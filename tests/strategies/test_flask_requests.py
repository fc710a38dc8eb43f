"""Views, hooks, handlers and blueprints use the session as in any Flask application."""

from __future__ import annotations

import flask
import flask_login
import pytest
from flask_apps import calls, make_app, run, shown
from markupsafe import Markup


def test_flash(store):
    """Flashed messages, of any category, are shown once, after the redirect, also in a template."""
    app = make_app(store)

    @app.post("/save")
    def save():
        flask.flash("saved & done", "success")
        flask.flash("almost full", "warning")
        return flask.redirect("/")

    @app.get("/")
    def index():
        return flask.render_template_string("{% for m in get_flashed_messages() %}<p>{{ m }}</p>{% endfor %}")

    client = app.test_client()
    assert client.post("/save", follow_redirects=True).text == "<p>saved &amp; done</p><p>almost full</p>"
    assert client.get("/").text == ""
    client.post("/save")
    warnings = {"category_filter": ["warning"]}
    assert run(app, lambda _: flask.get_flashed_messages(**warnings), client).json == ["almost full"]


def test_flashed_markup(memory):
    """Markup, which would come back as plain text, is refused where it is flashed, not shown with its tags later."""
    app = make_app(memory, TESTING=True)
    with pytest.raises(TypeError, match="'_flashes' cannot be kept as JSON: Markup is neither"):
        run(app, lambda _: flask.flash(Markup("<b>saved</b>")))


def shop_with_users(store):
    """Return an application with users, as Flask's tutorial has them: a blueprint, `g.user`, a login, a logout."""
    app = make_app(store)
    users = flask.Blueprint("users", __name__, url_prefix="/users")

    @app.before_request
    def who():
        flask.g.user = flask.session.get("user")

    @users.post("/login")
    def login():
        flask.session.clear()
        flask.session["user"] = flask.request.form["name"]
        flask.session.rotate()
        return flask.redirect("/users/me")

    @users.get("/me")
    def me():
        return flask.g.user or flask.abort(401)

    @users.post("/logout")
    def logout():
        flask.session.clear()
        return "bye"

    @users.errorhandler(401)
    def please_log_in(error):
        return f"log in, {flask.session.get('user', 'stranger')}", 401

    app.register_blueprint(users)
    return app


def test_users(store):
    """Users of Flask's tutorial log in, are known in `before_request`, and log out; a blueprint's handler sees them."""
    client = shop_with_users(store).test_client()
    assert client.get("/users/me").text == "log in, stranger"
    assert client.post("/users/login", data={"name": "ann"}, follow_redirects=True).text == "ann"
    cookie = client.get_cookie("session").value
    assert client.post("/users/login", data={"name": "bob"}, follow_redirects=True).text == "bob"
    assert client.get_cookie("session").value != cookie
    assert client.post("/users/logout").text == "bye"
    assert client.get_cookie("session") is None
    assert client.get("/users/me").status_code == 401


def test_flask_login(store):
    """Flask-Login keeps its user in the session as in any other."""
    app = make_app(store)
    manager = flask_login.LoginManager(app)

    class User(flask_login.UserMixin):
        id = "ann"

    manager.user_loader(lambda name: User() if name == "ann" else None)

    def log_in(session):
        flask_login.login_user(User())
        session.rotate()

    client = app.test_client()
    run(app, log_in, client)
    assert run(app, lambda _: flask_login.current_user.get_id(), client).text == "ann"
    run(app, lambda _: [flask_login.logout_user()], client)
    assert run(app, lambda _: [flask_login.current_user.is_authenticated], client).json == [False]


def test_view_that_crashes(store):
    """What a view that crashes had changed is saved, and its error page can read and flash, as in Flask."""
    app = make_app(store)

    @app.errorhandler(500)
    def sorry(error):
        flask.flash("we are sorry")
        return f"sorry, {flask.session['user']}", 500

    def crash(session):
        session["user"] = "ann"
        raise ZeroDivisionError

    client = app.test_client()
    answer = run(app, crash, client)
    assert (answer.status_code, answer.text) == (500, "sorry, ann")
    assert shown(client) == {"user": "ann", "_flashes": [["message", "we are sorry"]]}


def test_teardown(store):
    """After the answer the session can still be read; what is changed then is too late, as in Flask."""
    app = make_app(store)
    seen = []

    @app.teardown_request
    def late(_):
        seen.append(flask.session.get("a"))
        flask.session["late"] = 1

    client = app.test_client()
    run(app, lambda session: session.update(a=1), client)
    run(app, lambda _: None, client)
    assert seen == [1, 1]
    with client.session_transaction() as session:
        assert dict(session) == {"a": 1}


def test_streaming(store):
    """A stream reads the session while it is sent; what it changes is too late, as in Flask."""
    app = make_app(store)

    def stream(session):
        def parts():
            yield session["a"]
            session["late"] = 1
            yield "!"

        return flask.Response(flask.stream_with_context(parts()))

    client = app.test_client()
    run(app, lambda session: session.update(a="hello"), client)
    answer = run(app, stream, client)
    assert answer.text == "hello!"
    assert shown(client) == {"a": "hello"}


def test_async_views(memory):
    """An async view uses the session as any other; it needs `flask[async]`."""
    app = make_app(memory)

    @app.get("/count")
    async def count():
        flask.session["n"] = flask.session.get("n", 0) + 1
        return str(flask.session["n"])

    client = app.test_client()
    assert [client.get("/count").text for _ in range(3)] == ["1", "2", "3"]


def test_saved_once(store):
    """Where something fails after the save, and Flask answers a second time, no second session begins."""
    app = make_app(store)

    def fail(*_, **__):
        raise ZeroDivisionError

    before = calls(store)[0]
    client = app.test_client()
    with flask.request_finished.connected_to(fail, app):
        answer = run(app, lambda session: session.update(a=1), client)
    assert answer.status_code == 500
    assert calls(store)[0] == before + 1
    assert shown(client) == {"a": 1}


def test_saved_before_the_answer_leaves(store):
    """When the first byte of an answer leaves, another server already sees what its request saved: redirects work."""
    app, other = make_app(store), make_app(store)
    client = app.test_client()
    run(app, lambda session: session.update(n=0), client)
    cookie = client.get_cookie("session").value
    seen = []
    inner = app.wsgi_app

    def watched(environ, start_response):
        def starting(*arguments):
            look = run(other, lambda session: [session["n"]], headers={"Cookie": f"session={cookie}"})
            seen.extend(look.json)
            return start_response(*arguments)

        return inner(environ, starting)

    app.wsgi_app = watched
    for n in (1, 2):
        run(app, lambda session, n=n: session.update(n=n), client)
    assert seen == [1, 2]


def test_varies_by_cookie(store):
    """An answer varies by cookie exactly if the session was asked anything, also in a template; Flask 3.1.3."""
    app = make_app(store)
    app.add_url_rule("/none", "none", lambda: flask.render_template_string("no session"))
    client = app.test_client()
    run(app, lambda session: session.update(a=1), client)
    asked = (
        lambda session: [session["a"]],
        lambda session: ["a" in session],
        lambda session: [len(session)],
        lambda session: [session.modified],
        lambda session: [session.new],
        lambda session: [session.permanent],
        lambda _: flask.render_template_string("{{ session.a }}"),
        lambda _: flask.get_flashed_messages(),
    )
    for action in asked:
        assert run(app, action, client).headers["Vary"] == "Cookie"
    assert "Vary" not in client.get("/none").headers
