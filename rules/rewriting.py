"""A rule as it would be written with one key changed: what a person may paste into the rule file."""

from __future__ import annotations

import re

from devices.documents import DocumentError
from rules.book import load
from rules.expression import Arithmetic, Attribute, ByResponse, Expression, Negate, Number, Sum
from rules.rule import Rule

_STRENGTH: dict[Sum, int] = {"+": 1, "-": 1, "*": 2, "/": 2}


def with_key(rule: Rule, changed: Rule, key: str, value: str) -> str:
    """The YAML of `rule` with `key: value`, which is `changed`; only id and key where its text cannot be edited so."""
    edits = (_replaced(rule.text, key, value), _added_line(rule.text, key, value), _added_inside(rule.text, key, value))
    for text in edits:
        if text is not None and _means(text, changed):
            return text
    return f"  - id: {rule.id}\n    {key}: {value}"


def constant_text(node: Expression) -> str:
    """A constant number as the language writes it; TypeError for anything else."""
    if isinstance(node, Number):
        return number_text(node.value)
    if isinstance(node, Attribute):
        return f"attr.{node.name}"
    if isinstance(node, Negate):
        return f"-{_inner(node.inner, 3)}"
    if isinstance(node, Arithmetic):
        mine = _STRENGTH[node.op]
        return f"{_inner(node.left, mine)} {node.op} {_inner(node.right, mine + 1)}"
    if isinstance(node, ByResponse):
        levels = (node.normal, node.iv, node.iii, node.ii, node.i)
        return f"by_response({', '.join(constant_text(each) for each in levels)})"
    raise TypeError(f"{type(node).__name__} is not a constant number")


def number_text(value: float) -> str:
    """Without the noise of binary fractions: 3.3, not 3.3000000000000003."""
    return f"{value:.10g}"


def _inner(node: Expression, strength: int) -> str:
    text = constant_text(node)
    loose = isinstance(node, Arithmetic) and _STRENGTH[node.op] < strength
    return f"({text})" if loose or isinstance(node, Negate) else text


def _replaced(text: str, key: str, value: str) -> str | None:
    """The key's value where it has one: to the end of the line, or up to the next key of a rule on one line."""
    for pattern in (rf"(?m)^(\s*(?:- )?{key}:\s*)[^#\n{{}}]*?(?=\s*(?:#.*)?$)", rf"(\b{key}:\s*)[^,{{}}]+"):
        changed, count = re.subn(pattern, lambda found: found[1] + value, text, count=1)
        if count:
            return changed
    return None


def _added_line(text: str, key: str, value: str) -> str | None:
    """A line of its own under `when`."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if found := re.match(r"(\s*)(- )?when:", line):
            indent = found[1] + " " * len(found[2] or "")
            return "\n".join([*lines[: number + 1], f"{indent}{key}: {value}", *lines[number + 1 :]])
    return None


def _added_inside(text: str, key: str, value: str) -> str | None:
    """Before the brace that ends a rule on one line."""
    before, brace, after = text.rpartition("}")
    return f"{before}, {key}: {value}{brace}{after}" if brace else None


def _means(text: str, rule: Rule) -> bool:
    try:
        read = load({"": f"rules:\n{text}\n"}).rules.get(rule.id)
    except DocumentError:
        return False
    return read is not None and read.fingerprint == rule.fingerprint and read.applies_to == rule.applies_to
