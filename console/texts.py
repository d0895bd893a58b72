"""The words of the pages in Chinese and English: one catalogue, `texts.json`, one key for each text.

A key that is not in the catalogue is an error, never an empty place on a page; a test looks every key up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final


class Language(StrEnum):
    ZH = "zh"
    EN = "en"


def _read() -> dict[str, tuple[str, str]]:
    raw = json.loads((Path(__file__).parent / "texts.json").read_text(encoding="utf-8"))
    return {key: (zh, en) for key, (zh, en) in raw.items()}


TEXTS: Final[Mapping[str, tuple[str, str]]] = _read()


def say(language: Language, key: str, /, **values: object) -> str:
    """The text of the key; `values` fill its {places}."""
    zh, en = TEXTS[key]
    text = zh if language is Language.ZH else en
    return text.format(**values) if values else text


def say_or(language: Language, key: str, otherwise: str) -> str:
    """The text of the key; `otherwise` where there is none: names that come from devices, rules or a later release."""
    return say(language, key) if key in TEXTS else otherwise
