"""The rule files of a service that runs: read at its start and again when somebody asks, all or none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from sqlalchemy import Engine

from alerts.refusals import Conflict, WrongDocument
from alerts.roles import SERVICE, Actor
from devices.documents import DocumentError, Mistake
from devices.town import Town
from flow.readings import Settler
from flow.reloading import Reloaded, wrong_rules
from gridwhistle.across import warnings
from gridwhistle.folders import read_rule_files, read_town_files
from gridwhistle.settings import Settings
from gridwhistle.site import calendar_of, remarks
from rules.book import RuleBook, load
from rules.calendar import EMPTY, Calendar
from store.records.categories import catalogue

log = logging.getLogger("gridwhistle.rules")

InTurn = Callable[[Callable[[], Reloaded]], Awaitable[Reloaded]]


def read_book(settings: Settings) -> RuleBook:
    """Raises DocumentError with every mistake, OSError."""
    return load(read_rule_files(settings.rules))


@dataclass(frozen=True)
class RuleFiles:
    """`run` calls in the settling thread, between two batches."""

    settings: Settings
    settler: Settler
    records: Engine
    town: Town | None
    run: InTurn
    now: Callable[[], int]

    async def reload(self, actor: Actor) -> Reloaded:
        """The rule files as they are now. Raises NotAllowed, WrongDocument, Conflict."""
        actor.require("rules.reload")
        return await self._take(actor.name)

    def on_signal(self) -> None:
        """SIGHUP: a mistake in the files leaves the running rules and is in the log."""
        task = asyncio.ensure_future(self._take(SERVICE))
        task.add_done_callback(_tell_reloaded)

    def warn(self, book: RuleBook) -> tuple[Mistake, ...]:
        """Logged: what is wrong between these rules, the calendar and the town that runs."""
        for remark in remarks(book, self.settler.memory.engine.site, self.now()):
            log.warning("%s", remark)
        with self.records.connect() as tx:
            found = warnings(book, self.town, catalogue(tx))
        for warning in found:
            log.warning("%s", warning)
        return found

    async def _take(self, by: str) -> Reloaded:
        try:
            book = await asyncio.to_thread(read_book, self.settings)
            calendar = await asyncio.to_thread(self._read_calendar)
        except DocumentError as error:
            raise wrong_rules(error) from error
        except OSError as error:
            zh, en = f"规则文件无法读取：{error}", f"the rule files cannot be read: {error}"
            raise Conflict("rules_unreadable", zh, en) from error
        site = replace(self.settler.memory.engine.site, calendar=calendar)
        changed = await self.run(lambda: self.settler.reload(book, self.now(), by, site))
        log.info("rules reloaded: %d, of which afresh: %s", len(book.rules), ", ".join(changed.afresh) or "none")
        return replace(changed, warnings=await asyncio.to_thread(self.warn, book))

    def _read_calendar(self) -> Calendar:
        """Raises DocumentError, OSError."""
        return calendar_of(read_town_files(self.settings.town)) if self.settings.town else EMPTY


def _tell_reloaded(done: asyncio.Future[Reloaded]) -> None:
    error = done.exception()
    if isinstance(error, WrongDocument):
        log.error("the rules were not reloaded: %s", "\n".join(map(str, error.mistakes)))
    elif error is not None:
        log.error("the rules were not reloaded", exc_info=error)
