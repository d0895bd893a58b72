"""`backup` and `restore`: the whole installation into a folder, and a folder into an empty data folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridwhistle.cli_options import AsJson, Config, Overrides, read_settings
from gridwhistle.console_io import NO, answer_json, give_up, progress, say

if TYPE_CHECKING:
    from flow.backup import Told

_STEPS = {
    "readings": "读数 readings", "records": "记录 records", "files": "文件 files", "checksums": "校验 checksums",
}  # fmt: skip


def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="目标目录，须为空\n\nFolder; absent or empty.")],
    config: Config = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """备份，服务运行与否都可以。

    Copy the installation into a folder while it runs, or while it does
    not: readings, records, the files of rules and town, the settings
    without secrets, and a manifest with the SHA-256 of each. What the
    broker still holds is not part of it.

    [bold]gridwhistle backup /srv/backup/2026-07-01 --config gridwhistle.toml[/bold]
    """
    settings = read_settings(config, overrides)
    from gridwhistle.copying import make_backup
    from gridwhistle.reach import NotDone

    try:
        with _told("备份 backup") as told:
            made = make_backup(settings, folder, told)
    except NotDone as error:
        give_up(str(error), NO)
    _answer(made, folder.absolute(), as_json=as_json)


def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="备份目录\n\nFolder of a backup.")],
    config: Config = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """把备份恢复到空的数据目录。

    Put a backup into the data folder of the settings, which must be empty
    or absent. Every file is compared with the manifest first; one that is
    damaged is named, and nothing is restored. Rules, town and settings of
    the backup are then below config/ in the data folder.

    [bold]gridwhistle restore /srv/backup/2026-07-01 --set data_dir=restored[/bold]
    """
    settings = read_settings(config, overrides)
    from gridwhistle.copying import restore_backup
    from gridwhistle.reach import NotDone

    try:
        with _told("恢复 restore") as told:
            found = restore_backup(folder, settings.data_dir, told)
    except NotDone as error:
        give_up(str(error), NO)
    _answer(found, settings.data_dir.absolute(), as_json=as_json)


@contextmanager
def _told(text: str) -> Iterator[Told]:
    """Each step once as a line on standard error, and a bar for who looks."""
    last = ""
    with progress(text) as bar:

        def told(step: str, part: float) -> None:
            nonlocal last
            if step != last and step in _STEPS:
                say(_STEPS[step])
            last = step
            bar(part)

        yield told


def _answer(manifest: dict[str, Any], place: Path, *, as_json: bool) -> None:
    if as_json:
        answer_json({"folder": str(place), **manifest})
        return
    size = sum(file["bytes"] for file in manifest["files"].values())
    print(f"{place}: {len(manifest['files'])} 个文件 files, {size:,} 字节 bytes")
    print(f"截至 as of {manifest['records_at']}，版本 version {manifest['version']}")
