"""The FastAPI application: every route of the API under /api/v1, health and metrics beside it.

The console mounts its pages on the same application. No documentation page is served: the framework's own load their
script from a CDN, and this runs on an intranet; docs/api.md and /api/v1/openapi.json are there instead.
"""

from __future__ import annotations

from typing import Any

from anyio import CapacityLimiter
from fastapi import APIRouter, Depends, FastAPI
from fastapi.telemetry import TelemetryConfig

from api import (
    alarms,
    backtest,
    backups,
    commands,
    declarations,
    devices,
    events,
    explain,
    health,
    intake,
    ledger,
    metrics,
    occurrences,
    orders,
    readings,
    rules,
    sessions,
    sources,
    users,
)
from api.arguments import refuse_unknown_query
from api.bodies import BoundedBodies
from api.problems import Problem, add_problems, describe
from api.unmatched import refuse_unmatched
from flow.installation import Installation

VERSION = "1.0.0"  # of the API, not of the software
# Hashing takes 19 MiB and a core each.
SIGN_INS_AT_ONCE = 2

# Nothing leaves the intranet, whatever the environment says.
TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
TAGS = [
    {"name": "session", "description": "Signing in / 登录"},
    {"name": "users", "description": "Users, for the admin / 用户"},
    {"name": "devices", "description": "Devices and grids / 设备与网格"},
    {"name": "readings", "description": "Readings / 监测数据"},
    {"name": "alarms", "description": "Alarms and their occurrences / 告警"},
    {"name": "orders", "description": "Work orders in four steps / 工单（四单）"},
    {"name": "declarations", "description": "Response levels, drills, pauses / 响应、演练、停用"},
    {"name": "intake", "description": "Refused packets and the ledger / 接入与台账"},
    {"name": "rules", "description": "Rules: tried, explained / 规则"},
    {"name": "stream", "description": "Server-sent events / 事件流"},
    {"name": "backup", "description": "Copies of the whole installation / 备份"},
    {"name": "health", "description": "For monitoring; no sign-in / 运行状态"},
]
ROUTERS = (
    sessions,
    users,
    devices,
    sources,
    commands,
    readings,
    alarms,
    occurrences,
    orders,
    intake,
    ledger,
    events,
    backtest,
    explain,
    declarations,
    rules,
    backups,
)


def create_app(installation: Installation) -> FastAPI:
    """The application over a running installation; it starts and stops nothing itself.

    `app.state.metrics.observe_settle` wants to be told how many seconds each batch took.
    """
    app = FastAPI(
        title="Gridwhistle 吹哨",
        version=VERSION,
        description="Readings to alarms to verified work orders. Errors are RFC 9457 problem+json.",
        openapi_url="/api/v1/openapi.json",
        openapi_tags=TAGS,
        docs_url=None,
        redoc_url=None,
        telemetry=TELEMETRY,
    )
    app.state.installation = installation
    app.state.sign_ins = CapacityLimiter(SIGN_INS_AT_ONCE)
    app.state.metrics = metrics.Metrics(installation)
    app.add_middleware(BoundedBodies)
    add_problems(app)
    api = APIRouter(prefix="/api/v1", dependencies=[Depends(refuse_unknown_query)])
    for module in ROUTERS:
        api.include_router(module.router)
    app.include_router(api)
    app.include_router(health.router)
    refuse_unmatched(app)
    _document_problems(app)
    return app


def _document_problems(app: FastAPI) -> None:
    """The schema as generated, with Problem where the framework describes its own validation errors."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            schemas = schema["components"]["schemas"]
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= problem.pop("$defs")
            schemas["Problem"] = problem
            for operations in schema["paths"].values():
                for operation in operations.values():
                    responses = operation["responses"]
                    responses.update(
                        {str(status): said for status, said in describe(422).items() if "422" in responses}
                    )
                    responses["default"] = describe(500)[500] | {"description": "Any other problem"}
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
