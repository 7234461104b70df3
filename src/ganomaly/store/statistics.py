"""How much a store holds."""

from dataclasses import dataclass

from sqlalchemy import Integer, func, select, text

from ganomaly.store.database import Store
from ganomaly.store.retention import image_bytes
from ganomaly.store.schema import ModelRow, PredictionRow


@dataclass(frozen=True)
class ModelStatistics:
    """What is stored of a model.

    Attributes
    ----------
    name : str
        Of the model.
    predictions, anomalous, reviewed, disagreeing : int
        How many there are; of how many review and verdict differ.
    """

    name: str
    predictions: int
    anomalous: int
    reviewed: int
    disagreeing: int


@dataclass(frozen=True)
class StoreStatistics:
    """What a store holds.

    Attributes
    ----------
    models : list of ModelStatistics
        By name.
    database_bytes, image_bytes : int
        Of the database, and of the images beside it.
    """

    models: list[ModelStatistics]
    database_bytes: int
    image_bytes: int


def store_statistics(store: Store) -> StoreStatistics:
    """Count everything; on a large store it takes seconds."""
    row = PredictionRow
    query = (
        select(
            ModelRow.name,
            func.count(row.id),
            func.coalesce(func.sum(row.is_anomaly.cast(Integer)), 0),
            func.count(row.label),
            func.coalesce(func.sum(row.disagrees.cast(Integer)), 0),
        )
        .join(row, row.model_id == ModelRow.id, isouter=True)
        .group_by(ModelRow.name)
        .order_by(ModelRow.name)
    )
    with store.reading() as session:
        models = [ModelStatistics(name, *map(int, counts)) for name, *counts in session.execute(query)]
        return StoreStatistics(models, database_bytes(store), image_bytes(session))


def database_bytes(store: Store) -> int:
    """Bytes of the database."""
    sqlite = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    postgresql = "SELECT pg_database_size(current_database())"
    with store.reading() as session:
        is_sqlite = session.get_bind().dialect.name == "sqlite"
        return int(session.scalar(text(sqlite if is_sqlite else postgresql)) or 0)
