"""From a request to an image: read within limits, and refused in one sentence before anything is decoded."""

import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from ganomaly.data.readers.decoding import read_header
from ganomaly.errors import ImageError
from ganomaly.service.security import RequestError
from ganomaly.service.served_model import Upload
from ganomaly.service.settings import Settings
from ganomaly.store.schema import MAX_KEY, MAX_NAME

FORM_FIELD = "image"
_NO_IMAGE = "the request has no image: send its bytes, or a form with the field image"


@dataclass(frozen=True)
class ImageForm:
    """A form with an image.

    Attributes
    ----------
    fields : FormData
        All of it.
    content : bytes
        Of the image; empty if there is none.
    file_name : str
        What the browser calls it.
    """

    fields: FormData
    content: bytes
    file_name: str

    def text(self, field: str) -> str:
        """A field that is text; empty if there is none."""
        value = self.fields.get(field)
        return value if isinstance(value, str) else ""

    def upload(self) -> Upload:
        """The image as an upload with a key of its own.

        Raises
        ------
        RequestError
            422 if there is none.
        """
        if not self.content:
            raise RequestError(422, _NO_IMAGE)
        return Upload(self.content, clean_name(self.file_name), secrets.token_hex(16))


async def read_form(request: Request, settings: Settings) -> ImageForm:
    """Read a form with an image, all of it in memory.

    Raises
    ------
    RequestError
        422 if it is damaged.
    """
    body = await request.body()

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, stream(), max_files=1, max_fields=10)
    parser.spool_max_size = settings.max_bytes + 1  # never on disk
    try:
        fields = await parser.parse()
    except (MultiPartException, KeyError, ValueError, UnicodeError, LookupError) as error:
        message = getattr(error, "message", "it cannot be read")
        raise RequestError(422, f"the form is damaged: {message}") from None
    image = fields.get(FORM_FIELD)
    if not isinstance(image, UploadFile):
        return ImageForm(fields, b"", "")
    return ImageForm(fields, await image.read(), image.filename or "")


async def read_upload(request: Request, settings: Settings, name: str, source: str) -> Upload:
    """Read the image of a request: its body, or the field `image` of a form.

    Parameters
    ----------
    request : Request
        Whose body is read.
    settings : Settings
        With the limits.
    name : str
        What the sender calls the part; the file name of a form if empty.
    source : str
        Who sends it.

    Raises
    ------
    RequestError
        422 if there is no image, or an Idempotency-Key that is no key.
    """
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        form = await read_form(request, settings)
        body, name = form.content, name or form.file_name
    else:
        body = await request.body()
    if not body:
        raise RequestError(422, _NO_IMAGE)
    key = request.headers.get("idempotency-key")
    if key is not None and not (0 < len(key) <= MAX_KEY and key.isprintable()):
        raise RequestError(422, f"an Idempotency-Key has 1 to {MAX_KEY} printable characters")
    return Upload(body, clean_name(name), key or secrets.token_hex(16), source)


def check_header(upload: Upload, settings: Settings) -> None:
    """Raise `RequestError` 422 if an upload is no image that is decoded, or 413 if it has too many pixels."""
    try:
        header = read_header(upload.content, name=upload.name)
    except ImageError as error:
        raise RequestError(422, str(error)) from None
    if header.height * header.width > settings.max_pixels:
        raise RequestError(
            413,
            f"{upload.name} has {header.height * header.width / 1e6:.0f} megapixels, and at most "
            f"{settings.max_pixels / 1e6:.0f} are taken; scale it down",
        )


def clean_name(name: str) -> str:
    """A name as one line without control characters; it is shown and stored, and never a path.

    >>> clean_name("../a\\nb.png")
    '../a�b.png'
    """
    kept = "".join(letter if letter.isprintable() else "�" for letter in name)
    return kept.encode(errors="replace").decode()[:MAX_NAME].strip() or "image"
