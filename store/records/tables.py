"""The SQL tables (design: docs/architecture.md §3). Instants are int64 microseconds since 1970 UTC throughout.

SQLAlchemy Core only. Alembic migrations under `migrations/` make these; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _at(name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable)


# --- the path of a reading ------------------------------------------------------------------------------------------
journal = Table(
    "journal",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", String, nullable=False),  # batch | tick | link
    _at("at"),
    Column("body", LargeBinary, nullable=False),
)
snapshots = Table(
    "snapshots",
    metadata,
    Column("name", String, primary_key=True),
    Column("number", Integer, nullable=False),  # the last journal entry it contains
    Column("body", LargeBinary, nullable=False),
)
series = Table(
    "series",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("device", Integer, ForeignKey("devices.number"), nullable=False),
    Column("metric", String, nullable=False),
    UniqueConstraint("device", "metric"),
)
events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("device", Integer, ForeignKey("devices.number"), nullable=False),
    Column("key", String, nullable=False),  # the sender's id, or a hash of the payload
    _at("at"),
    Column("name", String, nullable=False),
    _at("received_at"),
    Column("payload", LargeBinary, nullable=False),
    UniqueConstraint("device", "key", "at"),
    Index(None, "device", "name", "at"),
)
ledger = Table(
    "ledger",
    metadata,
    Column("device", Integer, primary_key=True, autoincrement=False),  # -1: no device could be told
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    *(
        Column(n, Integer, nullable=False, default=0)
        for n in ("received", "stored", "duplicate", "replaced", "refused", "late", "flagged", "quarantined", "deleted")
    ),
    # Values and events that the rules saw; messages of a device that numbers them: missing, and found after all.
    *(Column(n, Integer, nullable=False, server_default=text("0")) for n in ("evaluated", "gaps", "gaps_filled")),
    Index(None, "hour", "device"),  # a span of the ledger is read in this order
)
ledger_reasons = Table(  # why values were refused or flagged; sums up to the ledger's columns of these names
    "ledger_reasons",
    metadata,
    Column("device", Integer, primary_key=True, autoincrement=False),
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("outcome", String, primary_key=True),  # refused | flagged
    Column("reason", String, primary_key=True),
    Column("count", Integer, nullable=False),
    Index(None, "hour", "device"),
)
refused = Table(
    "refused",
    metadata,
    Column("id", Integer, primary_key=True),
    _at("at"),
    Column("topic", String, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("reason", String, nullable=False),
    Column("detail", String, nullable=False),
    Column("device", Integer, nullable=False),
    Column("count", Integer, nullable=False, server_default=text("1")),  # what the ledger counted for it
    Column("whole", Boolean, nullable=False, server_default=text("1")),  # all its bytes are kept
    # When it came; `at` is when it was counted, which is later where it was read again and refused again.
    Column("arrived_at", BigInteger, nullable=False, server_default=text("0")),
    Index(None, "arrived_at"),
    sqlite_autoincrement=True,  # a number means one packet for ever, also once that is read again
)

# --- what is out there ----------------------------------------------------------------------------------------------
grids = Table(
    "grids",
    metadata,
    Column("id", String, primary_key=True),
    Column("parent", String),
    Column("name", String, nullable=False),
    Column("level", String, nullable=False),
    Column("geometry", JSON),
)
devices = Table(
    "devices",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("id", String, nullable=False, unique=True),
    Column("site", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("name", String, nullable=False, default=""),
    Column("grid", String),
    Column("status", String, nullable=False),
    Column("attributes", JSON, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("interval_s", Float, nullable=False),
    Column("silent_after_s", Float),
    Column("latitude", Float),
    Column("longitude", Float),
    Column("keeper", String, nullable=False, default=""),
    Column("keeper_phone", String, nullable=False, default=""),
    Column("person", String, nullable=False, default=""),
    Column("person_address", String, nullable=False, default=""),
    _at("first_seen"),
    Column("online", Boolean),  # what the device's own status topic said last; None: never said
    Column("second_of", String),  # the device whose station it is another source for
)
commands = Table(  # what was asked of a device, and what it answered
    "commands",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),  # on the wire
    Column("device", Integer, nullable=False),
    Column("command", String, nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("state", String, nullable=False),
    Column("by", String, nullable=False),
    Column("why", String, nullable=False),
    _at("at"),
    _at("expires_at"),
    _at("sent_at", nullable=True),
    _at("ended_at", nullable=True),
    Column("reply", JSON),
    Index(None, "device", "number"),
    Index("ix_commands_open", "expires_at", sqlite_where=text("ended_at IS NULL")),
)

# --- what people do about it ----------------------------------------------------------------------------------------
rules = Table(
    "rules",
    metadata,
    Column("id", String, primary_key=True),
    Column("name_zh", String, nullable=False),
    Column("name_en", String, nullable=False),
    Column("priority", String, nullable=False),
    Column("order_category", String),  # None: alarm only
    Column("text", Text, nullable=False),  # the rule as written, for the page that explains an alarm
)
alarms = Table(
    "alarms",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("rule", String, nullable=False),
    Column("device", String, nullable=False),
    Column("grid", String),
    Column("priority", String, nullable=False),
    Column("state", String, nullable=False),  # ISA-18.2 mnemonic
    Column("active", Boolean, nullable=False),  # the condition itself, whatever the state says
    Column("occurrence", Integer),  # the latest
    Column("raised_count", Integer, nullable=False, default=0),
    Column("kind", String),  # of the members where it is about several devices; a personal one if any is
    Column("early", Boolean, nullable=False, server_default=text("0")),  # a forecast: not the alarm itself
    Column("suppressed_by", Integer),  # the standing alarm of several devices that covers this one
    _at("changed_at"),
    Column("acknowledged_by", String),
    _at("acknowledged_at", nullable=True),
    Column("shelved_by", String),
    _at("shelved_until", nullable=True),
    Column("shelve_reason", String),
    Column("version", Integer, nullable=False, default=1),
    UniqueConstraint("rule", "device"),
    Index(None, "state", "priority"),
    Index(None, "shelved_until"),
    Index("ix_alarms_suppressed_by", "suppressed_by", sqlite_where=text("suppressed_by IS NOT NULL")),
)
occurrences = Table(
    "occurrences",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("alarm", Integer, ForeignKey("alarms.id"), nullable=False),
    Column("rule", String, nullable=False),
    Column("device", String, nullable=False),
    Column("metric", String),
    _at("since"),
    _at("raised_at"),
    _at("cleared_at", nullable=True),
    Column("first_value", Float),
    Column("peak_value", Float),
    Column("reason", JSON, nullable=False),  # the condition and the values it saw when it fired
    Column("retroactive", Boolean, nullable=False, default=False),
    # How severe it was from which instant on, with what was seen then; null where its rule has one severity.
    Column("severity", JSON(none_as_null=True)),
    _at("recorded_at"),
    UniqueConstraint("rule", "device", "raised_at"),
    Index(None, "alarm", "raised_at"),
    Index(None, "raised_at"),
    # The few that stand, among an alarm's thousands that are over.
    Index("ix_occurrences_standing", "alarm", sqlite_where=text("cleared_at IS NULL")),
)
# Stretches in which nothing of a series was judged; what fills them later is looked at once more.
holes = Table(
    "holes",
    metadata,
    Column("series", Integer, primary_key=True, autoincrement=False),
    Column("from_at", BigInteger, primary_key=True, autoincrement=False),
    _at("to_at"),
    Column("device", Integer, nullable=False),
    _at("filled_at", nullable=True),  # the last late reading inside that nobody has looked at yet
    Index("ix_holes_filled_at", "filled_at", sqlite_where=text("filled_at IS NOT NULL")),
)
alarm_history = Table(
    "alarm_history",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("alarm", Integer, ForeignKey("alarms.id"), nullable=False),
    Column("occurrence", Integer),
    _at("at"),
    Column("by", String, nullable=False),
    Column("act", String, nullable=False),
    Column("from_state", String),
    Column("to_state", String, nullable=False),
    Column("why", String),
    Index(None, "alarm", "id"),
)
orders = Table(
    "orders",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("state", String, nullable=False),
    Column("version", Integer, nullable=False, default=1),
    Column("category", String, nullable=False),
    Column("title", String, nullable=False),
    Column("description", Text, nullable=False, default=""),
    Column("priority", String, nullable=False),
    Column("source", String, nullable=False),  # rule | resident | grid_worker | hotline | duty
    Column("reporter", String, nullable=False),  # user name, or "service"
    Column("external_id", String, unique=True),
    Column("alarm", Integer, ForeignKey("alarms.id")),
    Column("device", String),
    Column("grid", String),
    Column("latitude", Float),
    Column("longitude", Float),
    Column("close_by", String, nullable=False),  # sensor | person | both
    Column("assignee", String),
    Column("merged_into", Integer, ForeignKey("orders.id")),
    Column("handled_by", String),
    _at("created_at"),
    _at("changed_at"),
    _at("accept_by", nullable=True),
    _at("arrive_by", nullable=True),
    _at("handle_by", nullable=True),
    _at("closed_at", nullable=True),
    _at("next_limit_at", nullable=True),  # the earliest limit still running; indexed for the tick
    Column("overdue", Boolean, nullable=False, default=False),
    Index(None, "state", "id"),
    Index(None, "alarm"),
    Index(None, "assignee", "state"),
    Index(None, "next_limit_at"),
)
order_occurrences = Table(
    "order_occurrences",
    metadata,
    Column("order", Integer, ForeignKey("orders.id"), primary_key=True),
    Column("occurrence", Integer, ForeignKey("occurrences.id"), primary_key=True),
)
order_history = Table(
    "order_history",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("order", Integer, ForeignKey("orders.id"), nullable=False),
    _at("at"),
    Column("by", String, nullable=False),
    Column("post", String, nullable=False),  # the role the person acted in, or "service"
    Column("act", String, nullable=False),
    Column("from_state", String),
    Column("to_state", String, nullable=False),
    Column("why", String),
    Column("detail", JSON, nullable=False),
    Index(None, "order", "id"),
)

# --- what people declare: modes of the whole town, pauses of devices -------------------------------------------------
declarations = Table(
    "declarations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String, nullable=False),  # response | drill
    Column("level", Integer),  # of a response: 1, the most severe, to 4
    _at("start"),
    _at("end", nullable=True),  # None: until somebody ends it
    Column("why", String, nullable=False),
    Column("ordered_by", String, nullable=False, default=""),  # the leader whose decision it is; `by` entered it
    Column("by", String, nullable=False),
    _at("declared_at"),
    Column("ended_by", String),  # who ended it before its time
    _at("ended_at", nullable=True),
    CheckConstraint("kind in ('response', 'drill')", name="kind"),
    Index(None, "kind", "id"),
)
pauses = Table(
    "pauses",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("device", Integer, ForeignKey("devices.number"), nullable=False),
    Column("of_person", Boolean, nullable=False),  # of every device of the person behind it
    Column("rules", JSON),  # ids; None: every rule
    _at("start"),
    _at("end"),
    Column("why", String, nullable=False),
    Column("by", String, nullable=False),
    _at("declared_at"),
    Column("ended_by", String),
    _at("ended_at", nullable=True),
    Index(None, "device", "id"),
)

# --- messages out, people, the event stream -------------------------------------------------------------------------
outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String, nullable=False, unique=True),  # a message sent twice carries the same key
    Column("channel", String, nullable=False),
    Column("body", JSON, nullable=False),
    _at("created_at"),
    _at("due_at"),
    Column("attempts", Integer, nullable=False, default=0),
    _at("claimed_until", nullable=True),
    _at("sent_at", nullable=True),
    _at("dead_at", nullable=True),
    Column("last_error", String),
    Index(None, "sent_at", "due_at"),
)
users = Table(
    "users",
    metadata,
    Column("name", String, primary_key=True),
    Column("role", String, nullable=False),
    Column("password", String, nullable=False),  # argon2id
    Column("display_name", String, nullable=False, default=""),
    _at("created_at"),
    Column("failures", Integer, nullable=False, default=0),
    _at("locked_until", nullable=True),
    Column("disabled", Boolean, nullable=False, default=False),
)
sessions = Table(
    "sessions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("digest", String, nullable=False, unique=True),  # SHA-256 of the token; the token itself is not kept
    Column("user", String, ForeignKey("users.name"), nullable=False),
    Column("kind", String, nullable=False),  # api | console | wall (read-only, long-lived)
    Column("csrf", String, nullable=False),
    _at("created_at"),
    _at("expires_at"),
    Column("label", String, nullable=False, default=""),
)
audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    _at("at"),
    Column("by", String, nullable=False),
    Column("act", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("why", String),
    Index(None, "subject", "act", "id"),  # failures of a name nobody has, for the same lockout as everyone's
)
stream = Table(
    "stream",
    metadata,
    Column("id", Integer, primary_key=True),
    _at("at"),
    Column("kind", String, nullable=False),  # alarm | order | presence | command
    Column("body", JSON, nullable=False),
    CheckConstraint("kind in ('alarm', 'order', 'presence', 'command')", name="kind"),
    sqlite_autoincrement=True,
)
settings = Table(
    "settings",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", JSON, nullable=False),
)
