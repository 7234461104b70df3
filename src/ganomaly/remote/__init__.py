"""Files in stores: `s3://`, `gs://`, `az://`, `hf://` and `https://` wherever a path stands."""

from ganomaly.remote.location import Location, RemoteFile, is_remote, location
from ganomaly.remote.open_file import opened
from ganomaly.remote.transfer import StoredFile, list_files, local_copy, read, stored_file, upload

__all__ = [
    "Location",
    "RemoteFile",
    "StoredFile",
    "is_remote",
    "list_files",
    "local_copy",
    "location",
    "opened",
    "read",
    "stored_file",
    "upload",
]
