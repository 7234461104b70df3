"""What a station is told when it starts."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ganomaly.errors import UsageError
from ganomaly.service.webhooks import check_url
from ganomaly.store.retention import Retention

Keep = Literal["all", "anomalous", "sample", "none"]
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Connections:
    """What a station takes images from, and tells its verdicts to, beside HTTP.

    Attributes
    ----------
    watch : Path or None
        A folder of new images.
    camera : str or None
        A camera: a URL, a device, or a video file.
    camera_interval : float
        Seconds between two of its images.
    feed : str or None
        The model that predicts these; the only one if left out.
    mqtt : str or None
        Host and port of a broker, or its URL, `mqtts://user:password@host:port/prefix`.
    opcua : str or None
        Port of an OPC UA server, or address and port.
    """

    watch: Path | None = None
    camera: str | None = None
    camera_interval: float = 1.0
    feed: str | None = None
    mqtt: str | None = None
    opcua: str | None = None


@dataclass(frozen=True)
class Settings:
    """What a station is told when it starts.

    Attributes
    ----------
    models : Path
        A model file, an exported graph, or a folder of them.
    store : str
        URL of the database, or a path of a SQLite file.
    files : Path or None
        Folder of images, maps and models; beside the SQLite file if left out.
    host, port : str, int
        Where to listen.
    keep : {'all', 'anomalous', 'sample', 'none'}
        Whose image and map are stored: every one, that of anomalous images and of the sample, of the sample, or none.
    retention : Retention
        How long they are stored.
    sample_first : int
        The first so many predictions of each version are in the sample for recalibration,
    sample_share : float
        and of later ones this share, drawn without regard to their scores.
    max_bytes, max_pixels : int
        Of an upload; larger ones are refused before they are decoded.
    queue : int
        Uploads that wait for a model at most; more are refused with 429.
    batch_size : int
        Uploads that are predicted together at most.
    request_seconds : float
        For reading a request, and for answering it.
    requests_per_minute : int
        Of each key, or of each address where there is no key.
    drift_alpha : float
        Share of undisturbed stations in which drift is ever reported.
    webhooks : tuple of str
        URLs that get every anomalous image and every drift alarm.
    webhook_secret : str
        Signs them.
    threads : int or None
        For computing; all processors if left out.
    connections : Connections
        Beside HTTP.
    """

    models: Path
    store: str = "station.db"
    files: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    keep: Keep = "all"
    retention: Retention = field(default_factory=Retention)
    sample_first: int = 200
    sample_share: float = 0.02
    max_bytes: int = 64 * 2**20
    max_pixels: int = 25_000_000
    queue: int = 64
    batch_size: int = 16
    request_seconds: float = 30.0
    requests_per_minute: int = 60_000
    drift_alpha: float = 0.01
    webhooks: tuple[str, ...] = ()
    webhook_secret: str = ""
    threads: int | None = None
    connections: Connections = field(default_factory=Connections)

    def __post_init__(self) -> None:
        if not 0 <= self.sample_share <= 1:
            raise UsageError(f"--sample-share is {self.sample_share}, but it must be from 0 to 1")
        if not 0 < self.drift_alpha < 1:
            raise UsageError(f"--drift-rate is {self.drift_alpha}, but it must be between 0 and 1")
        if self.webhooks and not self.webhook_secret:
            raise UsageError("webhooks are signed: set GANOMALY_WEBHOOK_SECRET in the environment")
        for url in self.webhooks:
            check_url(url)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the station."""
        return self.host in LOOPBACK
