"""Prints docs/settings.md from the settings themselves: `python scripts/settings_doc.py > docs/settings.md`.

A test compares the two, so the page cannot say what the program does not do.
"""

from __future__ import annotations

from pathlib import Path

from pydantic.fields import FieldInfo

from devices.instants import format_duration
from gridwhistle.settings import AS_DURATION
from gridwhistle.settings_sources import LEAVES, variable

HEAD = """# 设置 Settings

<!-- Made by scripts/settings_doc.py; do not edit by hand. -->

每项设置都可写在文件（TOML）、环境变量或 `--set` 中；先后次序：`--set` > 环境变量 > 文件 > 默认值。
Every setting can be given in the file, the environment or with `--set`; `--set` beats the environment, which beats
the file, which beats the default. An unknown name or a value that does not fit is told with its place, all of them at
once, and the exit status is 2. Paths in the file are relative to the file; elsewhere to the working folder.

```
gridwhistle run --config gridwhistle.toml --set http.port=8090
GRIDWHISTLE_BROKER__URL=mqtt://10.0.0.5:1883 gridwhistle run
```

```toml
data_dir = "data"
rules = "rules"
town = "town"

[broker]
url = "mqtt://10.0.0.5:1883"
username = "gridwhistle"
password_file = "broker.password"

[notify.channels]
duty = "file:duty.url"
```
"""


def default_of(field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, bool):
        return str(value).lower()
    if AS_DURATION in field.metadata:
        return "none" if value is None else format_duration(value)
    if value is None or value == {}:
        return "—"
    return value.as_posix() if isinstance(value, Path) else str(value)


def page() -> str:
    lines = [HEAD]
    for key, field in LEAVES.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict), key
        lines.append(
            f"## `{'.'.join(key)}`\n\n{extra['zh']}\n\n{field.description}\n\n"
            f"- 默认 default: `{default_of(field)}`\n- 取值 accepts: {extra['expected']}\n- `{variable(key)}`\n"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(page(), end="")
