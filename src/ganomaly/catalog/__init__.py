"""Many models from one catalogue: products and cameras, each with its images and options (`ganomaly fit-all`)."""

from ganomaly.catalog.entry import CatalogEntry, EntryResult, fit_entry
from ganomaly.catalog.read import read_catalog
from ganomaly.catalog.run import fit_catalog
from ganomaly.catalog.table import check_result_tables, write_result_tables

__all__ = [
    "CatalogEntry",
    "EntryResult",
    "check_result_tables",
    "fit_catalog",
    "fit_entry",
    "read_catalog",
    "write_result_tables",
]
