"""A web application that greets its visitors in their own language."""

from __future__ import annotations

from flask import Flask, Response, jsonify, render_template, request

from hello_web import greetings, visits


def create_app() -> Flask:
    """The application, ready to be served."""
    app = Flask(__name__)

    @app.get("/")
    def hello() -> str:
        language = request.accept_languages.best_match(greetings.languages()) or "en"
        return render_template("hello.html", language=language, greeting=greetings.greeting(language))

    @app.get("/health")
    def health() -> Response:
        return jsonify(status="ok", greetings=len(greetings.languages()), sqlite=greetings.SQLITE_VERSION)

    @app.get("/visits")
    def count() -> Response:
        """How often this was asked, counted in Redis; null where no REDIS_HOST says where that is."""
        return jsonify(visits=visits.count())

    return app
