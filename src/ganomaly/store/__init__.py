"""Predictions and reviews in a database: SQLite in a file, or PostgreSQL.

`open_store` opens one. The functions of the other modules take a session of `Store.reading` or `Store.writing`.
"""

from ganomaly.store.database import Store, StoreError, migrate_store, open_store

__all__ = ["Store", "StoreError", "migrate_store", "open_store"]
