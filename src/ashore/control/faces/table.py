"""The routes that the control process answers, and every route of the HTTP interface."""

from __future__ import annotations

from typing import Final

from ashore.control.alerts import AlertsReceived, ReceivedAlerts
from ashore.control.faces import alertmanager, console, feedback, scim, sites
from ashore.control.faces.admin import routes_of
from ashore.control.faces.owntools import own_tools
from ashore.data.authority import Principal
from ashore.data.feedback import Feedback, Score
from ashore.data.feedback.service import Given
from ashore.data.http import DATA_ROUTES, Face
from ashore.data.http.exchange import Exchange
from ashore.data.http.inner import inner
from ashore.data.http.openai.chat import ChatCompletion
from ashore.data.http.openai.types import ChatRequest
from ashore.data.http.operate import METRICS_TEXT, OWN_METRICS
from ashore.data.http.routes import Route
from ashore.kit.rooms import rooms


async def own_metrics(app: Face, exchange: Exchange, principal: Principal) -> None:
    """`GET /internal/metrics`."""
    for measure in app.rooms.measures:
        await measure()
    await exchange.respond(200, [METRICS_TEXT], app.metrics.page())


CONTROL_ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST", path="/v1/feedback", guard="infer", handler=feedback.create, tag="Feedback",
        summary="Vote on an answer, or correct it", request=Feedback, response=Given, operation="feedback",
    ),
    Route(
        method="POST", path="/api/public/scores", guard="infer", handler=feedback.score, tag="Feedback",
        summary="Vote on an answer, in the form of Langfuse", request=Score, response=feedback.ScoreKept,
    ),
    Route(
        method="POST", path="/api/public/ingestion", guard="infer", handler=feedback.ingest, tag="Feedback",
        summary="Send scores as clients of Langfuse do, several at once", request=feedback.Ingestion,
        response=feedback.IngestionOut,
    ),
    Route(
        method="POST", path="/site/v1/join", guard="open", handler=sites.join, tag="Site", operation="site_join",
        summary="Join a centre with a token, as a branch office does",
    ),
    Route(
        method="GET", path="/site/v1/{path}", guard="open", handler=sites.read, tag="Site", operation="site_read",
        summary="Read what a centre publishes, as a branch office does", content_type="application/octet-stream",
    ),
    Route(
        method="PUT", path="/site/v1/reports/{site}/{number}", guard="open", handler=sites.report, tag="Site",
        operation="site_report", summary="Hand a report in, as a branch office does",
    ),
    *(
        Route(
            method=method, path="/scim/v2/{path}", guard="key", handler=scim.answer, tag="SCIM",
            operation=f"scim_{method.lower()}", summary=f"{what}, as an identity provider does (RFC 7644)",
            content_type="application/scim+json",
        )
        for method, what in (
            ("GET", "Read people and groups"), ("POST", "Create a person or group"),
            ("PUT", "Replace a person or group"), ("PATCH", "Change a person or group"),
            ("DELETE", "Disable a person, or remove a group"),
        )
    ),
    Route(
        method="GET", path="/console", guard="open", handler=console.page, tag="Console", operation="console_home",
        summary="Show what runs and what needs the reader", content_type="text/html",
    ),
    Route(
        method="GET", path="/console/static/{file}", guard="open", handler=console.static, tag="Console",
        operation="console_static", summary="Load a file of the pages", content_type="text/css",
    ),
    Route(
        method="POST", path="/console/ask", guard="session", handler=console.ask, tag="Console",
        operation="console_ask", streams=True, repeats=True, request=ChatRequest, response=ChatCompletion,
        summary="Ask a model from the page Chat",
    ),
    *(
        Route(
            method=method, path="/console/ask/{path}", guard="session", handler=console.keep, tag="Console",
            operation=f"console_{word}", summary=f"{word.capitalize()} a conversation of the page Chat",
        )
        for method, word in (("GET", "read"), ("POST", "keep"), ("DELETE", "delete"))
    ),
    Route(
        method="GET", path="/console/events", guard="open", handler=console.events, tag="Console", streams=True,
        operation="console_events", summary="Follow what happens, for pages", content_type="text/event-stream",
    ),
    Route(
        method="POST", path="/console/vote", guard="session", handler=console.vote, tag="Console",
        operation="console_vote", request=Feedback, response=Given,
        summary="Vote on an answer, or correct it, from the page Chat",
    ),
    Route(
        method="GET", path="/console/{page}", guard="open", handler=console.page, tag="Console",
        operation="console_page", summary="Show a page of the console", content_type="text/html",
    ),
    Route(
        method="POST", path="/console/{page}", guard="open", handler=console.page, tag="Console",
        operation="console_act", summary="Send a form of the console", content_type="text/html",
    ),
    Route(
        method="POST", path="/admin/mcp", guard="key", handler=own_tools, tag="Tools", operation="call_own_tools",
        summary="List and make calls of ashore as tools, by the Model Context Protocol",
    ),
    Route(
        method="POST", path="/admin/alertmanager", guard="key", handler=alertmanager.take, tag="Alert",
        operation="receive_alerts", summary="Hand in alerts, as the webhook of an Alertmanager does",
        request=ReceivedAlerts, response=AlertsReceived,
    ),
    *(route for room in rooms() for route in routes_of(room.name, room.calls)),
)  # fmt: skip
OWN_ROUTES: Final[tuple[Route, ...]] = (
    *CONTROL_ROUTES,
    *(route for route in DATA_ROUTES if route.path in ("/docs", "/healthz", "/openapi.json")),
    inner(OWN_METRICS, own_metrics),
)
"""What the control process answers: its own, and what describes the routes of all processes."""
ROUTES: Final[tuple[Route, ...]] = (*DATA_ROUTES, *CONTROL_ROUTES)
"""What clients may ask a server for."""
