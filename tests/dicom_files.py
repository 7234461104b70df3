"""DICOM files for tests: written here, and those that come inside the package pydicom."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

NAME, BIRTH_DATE = "Doe^Jane^Secret", "19510203"
BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"


def bundled(name: str) -> Path:
    """A file of pydicom's own tests, which its package holds."""
    return BUNDLED / name


def patient_id(number: int) -> str:
    return f"PID-{number:05}-SECRET"


def write_dicom(
    path: Path,
    pixels: NDArray[Any],
    *,
    patient: str | None = None,
    photometric: str = "MONOCHROME2",
    bits_stored: int | None = None,
    slope: float | None = None,
    intercept: float | None = None,
    **more: Any,
) -> Path:
    """Write `[H, W]` or, of several frames, `[F, H, W]` without compression, and return the path."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientBirthDate = NAME, BIRTH_DATE
    if patient is not None:
        dataset.PatientID = patient
    if pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, photometric
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = bits_stored or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    if slope is not None:
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept or 0
    for name, value in more.items():
        setattr(dataset, name, value)
    dataset.PixelData = pixels.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_scans(folder: Path, images: NDArray[np.uint8], *, images_per_patient: int = 1) -> Path:
    """Write 8-bit textures as CT slices: Hounsfield units from −1000 to 530, with slope 1 and intercept −1024."""
    for number, image in enumerate(images):
        samples = (image.astype(np.int16) * 6 + 24).astype(np.int16)
        write_dicom(
            folder / f"{number:03}.dcm",
            samples,
            patient=patient_id(number // images_per_patient),
            slope=1,
            intercept=-1024,
        )
    return folder
