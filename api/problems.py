"""Every error as application/problem+json (RFC 9457), in Chinese and English, without a word about our insides.

`type` is a URN that stays the same; `detail` is for people. Pages outside /api may show the same problem their own
way: `app.state.show_problem`, set by the console, is asked first for a browser's request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from alerts.refusals import Refusal, WrongDocument
from store.readings import StoreUnavailable

MEDIA_TYPE = "application/problem+json"
API = "/api/"

log = logging.getLogger(__name__)


class FieldError(BaseModel):
    """One thing wrong with the request: `place` is path, query, header or body, `field` the way to it."""

    place: str
    field: str
    zh: str
    en: str


class DocumentMistake(BaseModel):
    """One thing wrong in a document that was sent, such as rules; `line` and `column` count from 1, 0: not known."""

    model_config = ConfigDict(from_attributes=True)

    file: str
    line: int
    column: int
    message: str


class Problem(BaseModel):
    """RFC 9457."""

    type: str = Field(examples=["urn:gridwhistle:problem:not_found"])
    title: str = Field(examples=["未找到 Not Found"])
    status: int
    detail: str = Field(examples=["没有这个设备 / there is no such device"])
    instance: str = Field(examples=["/api/v1/devices/ps-99"])
    zh: str
    en: str
    errors: list[FieldError] | None = None
    mistakes: list[DocumentMistake] | None = None


ShowProblem = Callable[[Request, Problem], Response]

_TITLES: Mapping[int, str] = {
    400: "请求无法理解",
    401: "未登录",
    403: "无权操作",
    404: "未找到",
    405: "方法不允许",
    409: "状态冲突",
    413: "请求过大",
    415: "内容类型不支持",
    422: "请求内容有误",
    500: "服务内部错误",
    503: "暂不可用",
}
_DETAILS: Mapping[int, tuple[str, str, str]] = {
    401: ("not_signed_in", "请先登录", "sign in first"),
    403: ("not_allowed", "无权执行此操作", "you may not do this"),
    404: ("not_found", "没有这个地址", "there is nothing at this address"),
    405: ("method_not_allowed", "此地址不支持该方法", "this address does not take that method"),
    503: ("busy", "连接数已满，请稍后再试", "as many are connected as can be: try again later"),
    413: ("body_too_large", "请求体超过上限", "the body is larger than allowed"),
}
# What pydantic says most, in Chinese; the rest is "值不合要求" beside the English.
_ZH: Mapping[str, str] = {
    "missing": "缺少此项",
    "extra_forbidden": "不认识的字段",
    "json_invalid": "不是有效的 JSON",
    "string_type": "应为文本",
    "string_too_short": "太短",
    "string_too_long": "太长",
    "string_pattern_mismatch": "格式不对",
    "int_type": "应为整数",
    "int_parsing": "应为整数",
    "float_type": "应为数字",
    "float_parsing": "应为数字",
    "finite_number": "应为有限的数字",
    "bool_parsing": "应为 true 或 false",
    "enum": "不在可选值之中",
    "literal_error": "不在可选值之中",
    "greater_than": "数值太小",
    "greater_than_equal": "数值太小",
    "less_than": "数值太大",
    "less_than_equal": "数值太大",
    "too_short": "项数太少",
    "too_long": "项数太多",
    "model_attributes_type": "应为 JSON 对象",
    "list_type": "应为列表",
}


class Busy(HTTPException):
    """As much is going on as can; it will pass."""

    def __init__(self) -> None:
        super().__init__(503, headers={"Retry-After": "10"})


def add_problems(app: FastAPI) -> None:
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(StoreUnavailable, _unavailable)
    app.add_exception_handler(OperationalError, _unavailable)
    app.add_exception_handler(Exception, _failed)


def problem_of(request: Request, refusal: Refusal) -> Problem:
    problem = _problem(request, refusal.status, refusal.code, refusal.zh, refusal.en)
    if isinstance(refusal, WrongDocument):
        problem.mistakes = [DocumentMistake.model_validate(mistake) for mistake in refusal.mistakes]
    return problem


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _answer(request, problem_of(request, error))


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    zh, en = "请求中有不合要求的内容，见 errors", "the request is not as expected: see errors"
    problem = _problem(request, 422, "invalid_request", zh, en)
    problem.errors = [_field_error(e) for e in error.errors()]
    return _answer(request, problem)


def _field_error(error: Mapping[str, Any]) -> FieldError:
    """Never the value itself: it may be a password."""
    place, *steps = error["loc"] or ("request",)
    zh = _ZH.get(error["type"], "值不合要求")
    return FieldError(place=str(place), field=".".join(map(str, steps)), zh=zh, en=str(error["msg"]))


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = _DETAILS.get(error.status_code)
    code, zh, en = known or ("bad_request", "请求无法处理", "the request cannot be handled")
    return _answer(request, _problem(request, error.status_code, code, zh, en), error.headers)


def _unavailable(request: Request, error: Exception) -> Response:
    log.warning("%s %s: %s", request.method, request.url.path, error)
    zh, en = "存储暂不可用，请稍后再试", "a store does not answer now: try again later"
    return _answer(request, _problem(request, 503, "store_unavailable", zh, en), {"Retry-After": "5"})


def _failed(request: Request, _error: Exception) -> Response:
    # The server logs the traceback; the client learns only that it was us.
    zh, en = "服务出错，已记录", "something went wrong here; it has been recorded"
    return _answer(request, _problem(request, 500, "internal_error", zh, en))


def _problem(request: Request, status: int, code: str, zh: str, en: str) -> Problem:
    title = f"{_TITLES.get(status, '请求未完成')} {HTTPStatus(status).phrase}"
    return Problem(
        type=f"urn:gridwhistle:problem:{code}",
        title=title,
        status=status,
        detail=f"{zh} / {en}",
        instance=request.url.path,
        zh=zh,
        en=en,
    )


def _answer(request: Request, problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    show: ShowProblem | None = getattr(request.app.state, "show_problem", None)
    if show is not None and not request.url.path.startswith(API) and "text/html" in request.headers.get("accept", ""):
        return show(request, problem)
    extra = dict(headers or {})
    if problem.status == 401:
        extra.setdefault("WWW-Authenticate", 'Bearer realm="gridwhistle"')
    return Response(problem.model_dump_json(exclude_none=True), problem.status, extra, MEDIA_TYPE)


def describe(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for OpenAPI."""
    return {
        status: {"description": _TITLES[status], "content": {MEDIA_TYPE: {"schema": _SCHEMA_REF}}}
        for status in statuses
    }


_SCHEMA_REF: Mapping[str, str] = {"$ref": "#/components/schemas/Problem"}
