"""What another rule book changes: the answer to whoever asked for it."""

from __future__ import annotations

from dataclasses import dataclass

from alerts.refusals import WrongDocument
from devices.documents import DocumentError, Mistake
from rules.book import RuleBook


def wrong_rules(error: DocumentError) -> WrongDocument:
    """The refusal of a book that has mistakes."""
    zh, en = f"规则有 {len(error.mistakes)} 处错误", f"{len(error.mistakes)} mistakes in the rules"
    return WrongDocument("rules_wrong", zh, en, error.mistakes)


@dataclass(frozen=True, slots=True)
class Reloaded:
    """Rule ids in the order of the new book (`removed`: of the old one). `afresh` are those of `changed` whose meaning
    is another: their holds and windows begin anew and what stood of them is cleared. `warnings`: what is wrong between
    the rules and the town, each of which is right by itself; the rules run nevertheless."""

    unchanged: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    added: tuple[str, ...]
    afresh: tuple[str, ...]
    warnings: tuple[Mistake, ...] = ()


def differences(old: RuleBook, new: RuleBook) -> Reloaded:
    """A rule is changed by any word of it, its name and its category too, but not by where it stands."""
    kept = [(old.rules[name], rule) for name, rule in new.rules.items() if name in old.rules]
    return Reloaded(
        tuple(after.id for before, after in kept if before == after),
        tuple(after.id for before, after in kept if before != after),
        tuple(name for name in old.rules if name not in new.rules),
        tuple(name for name in new.rules if name not in old.rules),
        tuple(after.id for before, after in kept if before.fingerprint != after.fingerprint),
    )
