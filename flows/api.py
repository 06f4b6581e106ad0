"""The lists over HTTP: what a product fetches. One process, the live version in memory, the next one as it goes live.

    GET  /                                   a page that asks, for people
    GET  /users/{user_id}/recommendations?n=20&new=false&names=false
    GET  /users/{user_id}/interests          what each interest of the user stands for
    POST /recommendations                    {"items": ["a", "b"], "n": 20, "new": true, "names": false}
    GET  /items/{item_id}/similar?n=20&names=false
    GET  /items?q=milk&n=20                  items by a part of their name or id
    GET  /versions/current
    GET  /health                             200 while it answers, whatever the newest version is like
    GET  /metrics                            Prometheus

Every answer names the version that it is from. With ``names`` each item has the name and the categories that the table
about items gives it, and its reason in words; without, an answer is ids, which is what a product needs.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from importlib.resources import files as resource_files
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Field, StrictInt
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.types import ASGIApp, Receive, Scope, Send

from imsr_core.errors import ConfigError, ImsrError
from pipelines.insight.explain import Explainer
from pipelines.insight.sentences import sentences
from pipelines.insight.words import Words
from pipelines.interests.asked_ids import asked_ids
from pipelines.interests.recommend import UnknownUserError
from pipelines.serving.live import Live
from pipelines.serving.model import ServedModel, UnknownItemError

#: Items of one answer, at most.
MOST = 1000

Id = Annotated[str, Path(max_length=1024)]


class _AnyText(PathConvertor):
    """An id in an address, which may have slashes, as a path has, and lines."""

    regex = "(?s:.*)"


register_url_convertor("id", _AnyText())
Count = Annotated[int, Query(ge=1, le=MOST, description="how many items")]
Names = Annotated[bool, Query(description="say what items and interests are called")]


class Session(BaseModel):
    """What somebody had, the most recent last, and how many items are wanted."""

    model_config = ConfigDict(extra="forbid")
    items: list[str | StrictInt] = Field(min_length=1, max_length=10_000)
    n: int = Field(20, ge=1, le=MOST)
    new: bool = Field(True, description="leave the session's own items out")
    names: bool = Field(False, description="say what the items are called")


class _Measures:
    """What /metrics shows."""

    def __init__(self, live: Live) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "imsr_requests", "requests by route and status", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram("imsr_request_seconds", "seconds of an answer", ["route"], registry=self.registry)
        switches = Gauge("imsr_version_switches", "versions loaded since the start", registry=self.registry)
        switches.set_function(lambda: live.switches)
        stuck = Gauge("imsr_version_stuck", "1 if the current version cannot be loaded", registry=self.registry)
        stuck.set_function(lambda: float(bool(live.problem)))


def application(live: Live, key: str | None = None) -> FastAPI:
    """The application over one workspace; with a ``key`` every request but / and /health must bring it as X-API-Key."""
    app = FastAPI(title="imsr", description="Recommendations of the live version.", version="1")
    measures = _Measures(live)

    def allowed(x_api_key: Annotated[str | None, Header()] = None) -> None:
        if key is not None and not hmac.compare_digest((x_api_key or "").encode(), key.encode()):
            raise HTTPException(401, "this service wants its key in the header X-API-Key")

    _measure(app, measures)
    app.add_middleware(_Head)
    _show_page(app)
    _answer_errors(app)
    guarded = [Depends(allowed)]

    _answer_lists(app, live, guarded)
    _answer_items(app, live, guarded)

    @app.get("/versions/current", dependencies=guarded)
    def current() -> dict[str, Any]:
        """The version that answers."""
        with live.model() as model:
            row = model.recommender.version.row
            facts = {name: row.summary.get(name) for name in ("users", "items", "interests", "mean_interests")}
            return {
                "version": row.version_id,
                "span": row.span_id,
                "strategy": row.strategy,
                "made": row.created_at,
            } | facts

    @app.get("/health")
    def health() -> dict[str, Any]:
        """Whether it answers, from which version, and what keeps it from a newer one."""
        with live.model() as model:
            return {"status": "ok", "version": model.version_id, "problem": live.problem or None}

    @app.get("/metrics", dependencies=guarded)
    def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(generate_latest(measures.registry), media_type=CONTENT_TYPE_LATEST)

    return app


def _answer_lists(app: FastAPI, live: Live, guarded: Sequence[Any]) -> None:
    @app.get("/users/{user_id:id}/recommendations", dependencies=guarded)
    def recommendations(user_id: Id, n: Count = 20, new: bool = False, names: Names = False) -> dict[str, Any]:
        """The best items of a user; a stranger gets the most popular ones. `new` leaves out what the user had."""
        with live.model() as model:
            items = model.recommend(user_id, n, new=new)
            if names:
                items = _words(model).of_list(items, _explainer(model).labels_of(user_id))
            return {"version": model.version_id, "user_id": user_id, "items": items}

    @app.post("/recommendations", dependencies=guarded)
    def session(asked: Session) -> dict[str, Any]:
        """The best items for a list of items: a session, or a user who is new. Nothing is trained or stored."""
        with live.model() as model:
            items, known = model.recommend_session(asked.items, asked.n, new=asked.new)
            answer = {"version": model.version_id, "known_items": known, "items": items}
            if asked.names:
                words = _words(model)
                answer |= {"items": words.of_list(items), "given": words.names(asked_ids(asked.items))}
            return answer

    @app.get("/users/{user_id:id}/interests", dependencies=guarded)
    def interests(user_id: Id) -> dict[str, Any]:
        """What each interest of a user stands for: in words, by its nearest items, and what it brings."""
        with live.model() as model:
            meanings = _explainer(model).user(user_id, drifts=False)
            told = sentences(user_id, meanings)
            return {"version": model.version_id, "user_id": user_id, "says": told, "interests": meanings}


def _answer_items(app: FastAPI, live: Live, guarded: Sequence[Any]) -> None:
    @app.get("/items/{item_id:id}/similar", dependencies=guarded)
    def similar(item_id: Id, n: Count = 20, names: Names = False) -> dict[str, Any]:
        """Items that are most like one."""
        with live.model() as model:
            items = model.similar(item_id, n)
            name = {"name": _words(model).names([item_id])[0]} if names else {}
            items = _words(model).of_list(items) if names else items
            return {"version": model.version_id, "item_id": item_id, "items": items} | name

    @app.get("/items", dependencies=guarded)
    def items(q: Annotated[str, Query(max_length=200, description="part of a name or id")], n: Count = 20) -> Any:
        """Items by a part of their name or id, with what they are called."""
        with live.model() as model:
            return {"version": model.version_id, "items": _words(model).search(q, n)}


def _words(model: ServedModel) -> Words:
    return Words(model.catalogue, model.recommender.version.vocabulary)


def _explainer(model: ServedModel) -> Explainer:
    return Explainer(model.recommender, model.catalogue)


def _measure(app: FastAPI, measures: _Measures) -> None:
    @app.middleware("http")
    async def timed(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        began, status = time.perf_counter(), HTTPStatus.INTERNAL_SERVER_ERROR.value
        try:
            response = await call_next(request)
            status = response.status_code
            return response
        finally:  # also of what was raised, which is answered by the server behind
            route = getattr(request.scope.get("route"), "path_format", "none")
            measures.requests.labels(route, status).inc()
            measures.seconds.labels(route).observe(time.perf_counter() - began)


def _show_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def try_it() -> Response:
        """The page; it has nothing of the workspace in it and asks with the key that a person gives."""
        page = resource_files("flows").joinpath("try_it.html").read_bytes()
        return Response(page, media_type="text/html; charset=utf-8")


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(ImsrError)
    def refused(_: Request, error: ImsrError) -> JSONResponse:
        status = HTTPStatus.SERVICE_UNAVAILABLE  # of a version that was pruned, or a file that is damaged
        if isinstance(error, UnknownItemError | UnknownUserError):
            status = HTTPStatus.NOT_FOUND
        elif isinstance(error, ConfigError):
            status = HTTPStatus.BAD_REQUEST
        return JSONResponse({"detail": error.message, "hint": error.hint}, status_code=status)

    @app.exception_handler(RequestValidationError)
    def malformed(_: Request, error: RequestValidationError) -> Response:
        """What is wrong and where; what was sent is not sent back: it may be large, and no JSON at all (NaN)."""
        told = [{name: each[name] for name in ("type", "loc", "msg")} for each in error.errors()]
        body = json.dumps({"detail": told})  # in ASCII, as a name may hold half a letter
        return Response(body, HTTPStatus.UNPROCESSABLE_ENTITY, media_type="application/json")


class _Head:
    """HEAD is answered wherever GET is, as load balancers ask; the server sends no body of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = {**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope
        await self._app(asked, receive, send)
