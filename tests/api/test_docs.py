"""docs/api.md says what the code does: its tables are made from it and its requests are sent.

`GRIDWHISTLE_WRITE_DOCS=1 pytest tests/api/test_docs.py` writes the tables anew.
"""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alerts import refusals
from alerts.orders import MOVES, NEEDS_REASON, SERVICE_MAY, Act, roles_of
from alerts.roles import MAY, ROLE_NAMES, Role
from tests.api.centre import Centre

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "api.md"
_SAMPLE = re.compile(r"```http (\w+) (\d+)\n(\w+) (\S+)\n(.*?)```", re.DOTALL)


def roles(_: Centre) -> str:
    rows = ["| role | may |", "| --- | --- |"]
    for role in Role:
        acts = [act for act, allowed in MAY.items() if role in allowed and act != "see"]
        rows.append(f"| `{role}` {ROLE_NAMES[role][0]} | {', '.join(f'`{act}`' for act in acts) or 'look'} |")
    return "\n".join(rows)


def routes(centre: Centre) -> str:
    rows = ["| route | what |", "| --- | --- |"]
    for path, operations in centre.app.openapi()["paths"].items():
        rows += [f"| `{method.upper()} {path}` | {op['summary']} |" for method, op in operations.items()]
    return "\n".join(rows)


def acts(_: Centre) -> str:
    rows = ["| act | from → to | who | reason |", "| --- | --- | --- | --- |"]
    for act in Act:
        moves: dict[str, list[str]] = {}
        for (state, done), to in MOVES.items():
            if done is act:
                moves.setdefault("stays" if act in {Act.EXTEND, Act.COMMENT} else to, []).append(state)
        who = [role for role in Role if role in roles_of(act)] + (["service"] if act in SERVICE_MAY else [])
        path = "; ".join(f"{', '.join(froms)} → {to}" for to, froms in moves.items())
        rows.append(f"| `{act}` | {path} | {', '.join(who)} | {'yes' if act in NEEDS_REASON else ''} |")
    return "\n".join(rows)


def problems(_: Centre) -> str:
    """Every refusal that the folders behind the API can make, by the status of its class."""
    found: dict[int, set[str]] = {}
    for folder in ("alerts", "api", "flow", "store"):
        for file in (ROOT / folder).rglob("*.py"):
            for name, code in _refusals(ast.parse(file.read_text())):
                found.setdefault(getattr(refusals, name).status, set()).add(code)
    rows = ["| status | codes |", "| --- | --- |"]
    rows += [f"| {status} | {', '.join(f'`{c}`' for c in sorted(codes))} |" for status, codes in sorted(found.items())]
    return "\n".join(rows)


def _refusals(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            code = node.args[0]
            if node.func.id in vars(refusals) and isinstance(code, ast.Constant) and isinstance(code.value, str):
                yield node.func.id, code.value


@pytest.mark.parametrize("table", [roles, routes, acts, problems], ids=lambda table: table.__name__)
def test_the_tables_are_those_of_the_code(centre: Centre, table: Any) -> None:
    name, made, page = table.__name__, table(centre), PAGE.read_text()
    block = re.compile(f"<!-- {name} -->\n(.*?)<!-- /{name} -->", re.DOTALL)
    if os.environ.get("GRIDWHISTLE_WRITE_DOCS") == "1":
        page = block.sub(lambda _: f"<!-- {name} -->\n{made}\n<!-- /{name} -->", page)
        PAGE.write_text(page)
    written = block.search(page)
    assert written is not None
    assert written[1].strip() == made


def test_the_requests_of_the_page_do_what_it_says(centre: Centre) -> None:
    centre.level(3.8)
    samples = _SAMPLE.findall(PAGE.read_text())
    assert len(samples) > 8
    for who, status, method, path, body in samples:
        token = None if who == "nobody" else centre.token(who)
        answer = centre.ask(method, path, token=token, json=json.loads(body) if body.strip() else None)
        assert answer.status_code == int(status), (method, path, answer.text)


def test_the_description_for_machines_is_whole(centre: Centre) -> None:
    described = centre.ask("GET", "/api/v1/openapi.json").json()
    references = set(re.findall(r'"\$ref": "#/components/schemas/([^"]+)"', json.dumps(described)))
    assert references <= set(described["components"]["schemas"])
    operations = [(path, op) for path, ops in described["paths"].items() for op in ops.values()]
    ids = [op["operationId"] for _, op in operations]
    assert len(set(ids)) == len(ids)
    tags = {tag["name"] for tag in described["tags"]}
    for path, op in operations:
        assert op["summary"]
        assert set(op["tags"]) <= tags
        assert "application/problem+json" in op["responses"]["default"]["content"]
        public = not path.startswith("/api/") or op["summary"].startswith("Sign in")
        assert ("security" in op) == (not public), path
    assert described["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"


def test_every_answer_has_the_shape_that_is_described(centre: Centre) -> None:
    """No route answers with an undescribed object."""
    described = centre.app.openapi()
    for path, operations in described["paths"].items():
        for method, op in operations.items():
            for status, answer in op["responses"].items():
                if status.startswith("2") and status != "204":
                    (content,) = answer["content"].values()
                    if path != "/metrics":
                        assert content["schema"], (method, path, status)
