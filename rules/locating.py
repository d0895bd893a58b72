"""Where in a YAML file a character of a condition stands, however many lines it is written over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rules.tokens import MAX_LENGTH

Place = tuple[int, int]


def place_of(lines: Sequence[str], key: Place, name: str, text: str, column: int) -> Place | None:
    """Line and column, from 1, of the character `column` (from 1) of the text that stands at the key.

    Source lines and text differ in white space alone, else None: an escape or a doubled quote in a quoted text, say. So
    it is for a text that is longer than any condition.
    """
    if len(text) > MAX_LENGTH:
        return None
    found: Place | None = None
    at = 0
    for number, start, line in _written(lines, key, name):
        at += _blank(text[at:])
        part = line[start:].strip()
        rest = text[at:].rstrip()
        if not rest:
            break
        if not part:
            continue
        if not (text.startswith(part, at) or part.startswith(rest)):
            return None
        begin = start + _blank(line[start:])
        if found is None or column - 1 >= at:
            found = number, begin + 1 + min(max(column - 1 - at, 0), len(part))
        at += min(len(part), len(rest))
    return found if at >= len(text.rstrip()) else None


def _written(lines: Sequence[str], key: Place, name: str) -> Iterator[tuple[int, int, str]]:
    """Number, beginning and text of each line from the value on; that of a block scalar begins on the line below."""
    first = lines[key[0] - 1] if 0 < key[0] <= len(lines) else ""
    colon = first.find(":", key[1] - 1 + len(name))
    if colon < 0:
        return
    start = colon + 1 + _blank(first[colon + 1 :])
    sign = first[start : start + 1]
    if sign not in (">", "|"):
        yield key[0], start + (sign in ("'", '"')), first
    for number in range(key[0], len(lines)):
        yield number + 1, 0, lines[number]


def _blank(text: str) -> int:
    """How much white space it begins with."""
    return len(text) - len(text.lstrip())
