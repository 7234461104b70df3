"""Images, maps and model files in a folder, each by the digest of its content or the number of its prediction."""

import hashlib
import re
import shutil
from pathlib import Path

from ganomaly.errors import OutputError
from ganomaly.files import written_whole

OTHER = "application/octet-stream"
_FORMATS = (
    (rb"\x89PNG", "image/png", ".png"),
    (rb"\xff\xd8\xff", "image/jpeg", ".jpg"),
    (rb"BM", "image/bmp", ".bmp"),
    (rb"RIFF....WEBP", "image/webp", ".webp"),
    (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", "image/tiff", ".tif"),
    (rb"....ftypavi[fs]", "image/avif", ".avif"),
    (rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  ", "image/jp2", ".jp2"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "image/jxl", ".jxl"),
    (rb".{128}DICM", "application/dicom", ".dcm"),
)
"""What the first bytes of an image say: its media type, and the ending of its file in the store."""

_SUFFIX_OF = {media_type: suffix for _, media_type, suffix in _FORMATS}
_SIGNATURES = [(re.compile(start, re.DOTALL), media_type) for start, media_type, _ in _FORMATS]


def media_type_of(content: bytes) -> str:
    """What the first bytes of an image say that it is; its name does not matter."""
    return next((media_type for start, media_type in _SIGNATURES if start.match(content)), OTHER)


def digest_of(content: bytes) -> str:
    """SHA-256 of an encoded image, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


class StoredFiles:
    """The files of a store.

    Parameters
    ----------
    folder : Path
        Its folder, which exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def image(self, digest: str, media_type: str) -> Path:
        """Where the image with this digest is; names of uploads never reach the disk."""
        return self._by_digest("images", digest, _SUFFIX_OF.get(media_type, ".image"))

    def anomaly_map(self, model_id: int, version: int, digest: str) -> Path:
        """Where the map that a version of a model made of an image is."""
        return self._by_digest(f"maps/{model_id}-{version}", digest, ".png")

    def model(self, name: str) -> Path:
        """Where a model file with this name is."""
        return self.folder / "models" / name

    def write(self, path: Path, content: bytes) -> None:
        """Write a file whole and flushed to the disk, unless it is there.

        Raises
        ------
        OutputError
            If it cannot be written, as on a full disk.
        """
        if path.exists():
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {path.parent}: {error.strerror or error}") from error
        with written_whole(path) as part:
            part.write_bytes(content)

    def keep_model(self, path: Path) -> str:
        """Copy a model file, and an OpenVINO graph's `.bin`, into the store; return its name there."""
        parts = [path, *([path.with_suffix(".bin")] if path.suffix.lower() == ".xml" else [])]
        digest = hashlib.sha256()
        for part in parts:
            with part.open("rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
        for part in parts:
            kept = self.model(digest.hexdigest() + part.suffix.lower())
            if not kept.exists():
                kept.parent.mkdir(parents=True, exist_ok=True)
                with written_whole(kept) as copy:
                    shutil.copyfile(part, copy)
        return digest.hexdigest() + path.suffix.lower()

    def remove(self, path: Path) -> int:
        """Remove a file; return how many bytes that frees."""
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise OutputError(f"cannot remove {path}: {error.strerror or error}") from error
        return size

    def _by_digest(self, kind: str, digest: str, suffix: str) -> Path:
        return self.folder / kind / digest[:2] / f"{digest}{suffix}"
