"""Write the Alembic migration that brings the last one to `store/records/tables.py`.

    python -m store.records.migrations.new "what changes"

The draft is made by comparison; read it before committing it. Triggers are not compared and are written by hand.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.config import Config

from store.records.database import MIGRATIONS, migrate, open_records, write


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    number = len(list((MIGRATIONS / "versions").glob("m[0-9]*.py"))) + 1
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("file_template", "m%%(rev)s_%%(slug)s")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.sqlite"
        if number > 1:
            migrate(path)
        records = open_records(path)
        with write(records) as tx:
            config.attributes["connection"] = tx
            command.revision(config, sys.argv[1], autogenerate=True, rev_id=f"{number:04d}")
        records.dispose()


if __name__ == "__main__":
    main()
