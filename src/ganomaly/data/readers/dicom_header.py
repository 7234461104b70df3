"""What the header of a DICOM file says of its pixels, and nothing of whom they show.

Only the elements listed here are read. The patient's identifier is hashed at once with a key that this process made
up, so that images of one patient can be kept together; it is not kept.
"""

import hashlib
import math
import os
import secrets
from dataclasses import dataclass
from functools import cache
from typing import IO, Any, BinaryIO, cast

from ganomaly.errors import ImageError

_TAGS = [
    "SOPInstanceUID",
    "StudyInstanceUID",
    "PatientID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]
_FILE_META = 0x0002  # group
_PREAMBLE = 132  # bytes, with the signature
_LEAST_BYTES = 8  # of a frame in its file


@dataclass(frozen=True)
class DicomHeader:
    """What is needed to decode one frame.

    Attributes
    ----------
    rows, columns, frames, samples : int
        Samples are those of a pixel.
    bits_allocated, bits_stored : int
        Of a sample.
    is_signed : bool
        Whether samples are signed.
    photometric : str
        As `MONOCHROME2` or `YBR_FULL`.
    slope, intercept : float
        From samples to values.
    padding : (float, float) or None
        Samples from the first to the second were not measured.
    transfer_syntax : UID
        How pixels are encoded.
    group : bytes
        The same for all images of a patient, in this process.
    dataset : Dataset
        Look-up tables, for pydicom.
    """

    rows: int
    columns: int
    frames: int
    samples: int
    bits_allocated: int
    bits_stored: int
    is_signed: bool
    photometric: str
    slope: float
    intercept: float
    padding: tuple[float, float] | None
    transfer_syntax: Any
    group: bytes
    dataset: Any

    @property
    def has_table(self) -> bool:
        """Whether values come from a look-up table and not from slope and intercept."""
        return bool(self.dataset.get("ModalityLUTSequence"))


def read_dicom_header(file: IO[bytes], frame: int) -> DicomHeader:
    """Read the header of a file at its start.

    Parameters
    ----------
    file : binary file
        Of DICOM.
    frame : int
        From 1; its own slope and intercept are taken where frames have such.

    Raises
    ------
    ImageError
        If it holds no image.
    """
    import pydicom

    transfer_syntax = _transfer_syntax(file)
    file.seek(0)
    tags: list[Any] = list(_TAGS)
    dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags)
    rows, columns = _whole(dataset, "Rows", 0), _whole(dataset, "Columns", 0)
    if not rows or not columns:
        raise ImageError(
            "holds no image: it is a DICOM file of another kind, as a report or a plan, or damaged"
        )
    frames = max(1, _whole(dataset, "NumberOfFrames", 1))
    n_bytes = file.seek(0, os.SEEK_END)
    if frames > max(1, n_bytes // _LEAST_BYTES):
        raise ImageError(f"is damaged: it promises {frames} frames in {n_bytes} bytes")
    bits_allocated = _whole(dataset, "BitsAllocated", 16)
    slope, intercept = _rescaling(dataset, frame)
    return DicomHeader(
        rows=rows,
        columns=columns,
        frames=frames,
        samples=_whole(dataset, "SamplesPerPixel", 1),
        bits_allocated=bits_allocated,
        bits_stored=_whole(dataset, "BitsStored", bits_allocated),
        is_signed=_whole(dataset, "PixelRepresentation", 0) == 1,
        photometric=str(dataset.get("PhotometricInterpretation", "")),
        slope=slope,
        intercept=intercept,
        padding=_padding(dataset),
        transfer_syntax=transfer_syntax,
        group=_group(dataset),
        dataset=dataset,
    )


def _transfer_syntax(file: IO[bytes]) -> Any:
    """How the file is encoded; `ImageError` where all of it is compressed, since it could grow without limit."""
    from pydicom.filereader import read_dataset
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

    file.seek(_PREAMBLE)
    meta = read_dataset(
        cast(BinaryIO, file),
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, *_: tag.group != _FILE_META,
    )
    transfer_syntax = meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
    if transfer_syntax == DeflatedExplicitVRLittleEndian:
        raise ImageError("is deflated as a whole, which is not read; save it with another transfer syntax")
    return transfer_syntax


def _whole(dataset: Any, name: str, default: int) -> int:
    value = dataset.get(name)
    return default if value in (None, "") else int(value)


def _rescaling(dataset: Any, frame: int) -> tuple[float, float]:
    """Slope and intercept of a frame; 1 and 0 where the file gives none."""
    holders = [dataset]
    for name, item in (
        ("PerFrameFunctionalGroupsSequence", frame - 1),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        sequence = dataset.get(name)
        if sequence and item < len(sequence):
            holders += sequence[item].get("PixelValueTransformationSequence") or []
    absent = (None, "")
    holder = next(
        (
            each
            for each in holders
            if each.get("RescaleSlope") not in absent or each.get("RescaleIntercept") not in absent
        ),
        None,
    )
    if holder is None:
        return 1.0, 0.0
    slope, intercept = (
        default if holder.get(name) in absent else float(holder.get(name))
        for name, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if slope == 0 or not (math.isfinite(slope) and math.isfinite(intercept)):
        raise ImageError(f"is damaged: its rescale slope is {slope:g}, and its intercept {intercept:g}")
    return slope, intercept


def _padding(dataset: Any) -> tuple[float, float] | None:
    value = dataset.get("PixelPaddingValue")
    if value in (None, ""):
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = float(value), float(value if limit in (None, "") else limit)
    return min(ends), max(ends)


def _group(dataset: Any) -> bytes:
    """A hash of the patient; of the study, or of the file, where the patient is not named."""
    for name in ("PatientID", "StudyInstanceUID", "SOPInstanceUID"):
        identifier = str(dataset.get(name) or "").strip()
        if identifier:
            content = f"{name}\0{identifier}".encode(errors="surrogateescape")
            return hashlib.blake2b(content, key=_key(), digest_size=16).digest()
    return secrets.token_bytes(16)


@cache
def _key() -> bytes:
    """The key of this process; without it, identifiers of a few digits could be found by trying."""
    return secrets.token_bytes(32)
