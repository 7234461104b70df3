"""Overlays of anomaly maps as DICOM Secondary Captures, for archives and viewers of medical images.

An archive files an image by patient and study, so these are copied from the image that was scored. No other output
has them, and this one is written only where it is asked for. Source: DICOM PS3.3, A.8 (Secondary Capture Image).
"""

import hashlib
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ganomaly.data.readers.dicom import DicomImage
from ganomaly.data.readers.encoded_image import EncodedImage
from ganomaly.errors import ImageError
from ganomaly.version import __version__

DESCRIPTION = "ganomaly anomaly map"
SERIES_NUMBER = 9000  # beside the study's own series

_COPIED = (
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_REQUIRED = (  # which may be empty
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)


def source_of_capture(image: EncodedImage) -> tuple[Any, int]:
    """Patient, study and identity of the file that an image comes from, and the number of its frame.

    Raises
    ------
    ImageError
        If it is no DICOM file, or names no study.
    """
    dicom = image.as_read
    if not isinstance(dicom, DicomImage):
        raise ImageError("is no DICOM file, so there is no study that its map could belong to; write png")
    source = dicom.elements([*_COPIED, "SOPClassUID", "SOPInstanceUID"])
    if not source.get("StudyInstanceUID") or not source.get("SOPInstanceUID"):
        raise ImageError("names no study, so its map could not be filed; write png")
    return source, dicom.frame


def write_capture(file: IO[bytes], overlay: NDArray[np.uint8], source: Any, frame: int) -> None:
    """Write an overlay in the study of its image; the same overlay has the same identifiers again.

    Parameters
    ----------
    file : binary file
        To write to.
    overlay : ndarray
        `uint8[H, W, 3]`.
    source : pydicom.Dataset
        From `source_of_capture`.
    frame : int
        Of the image in its file, from 1.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    digest = hashlib.sha256(overlay.tobytes()).hexdigest()
    capture = Dataset()
    for name in _COPIED:
        if name in source:
            capture[name] = source[name]
    for name in _REQUIRED:
        if name not in capture:
            setattr(capture, name, None)
    capture.SOPClassUID = SecondaryCaptureImageStorage
    capture.SOPInstanceUID = generate_uid(entropy_srcs=[source.SOPInstanceUID, str(frame), digest])
    capture.SeriesInstanceUID = generate_uid(entropy_srcs=[source.StudyInstanceUID, DESCRIPTION])
    capture.Modality, capture.ConversionType = "OT", "WSD"
    capture.SeriesNumber, capture.InstanceNumber = SERIES_NUMBER, frame
    capture.SeriesDescription = DESCRIPTION
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.DerivationDescription = "Overlay of an anomaly map on the image; no diagnosis"
    capture.Manufacturer, capture.SoftwareVersions = "ganomaly", __version__
    capture.PatientOrientation = None
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.get("SOPClassUID")
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    reference.ReferencedFrameNumber = frame
    capture.SourceImageSequence = [reference]
    capture.Rows, capture.Columns = overlay.shape[:2]
    capture.SamplesPerPixel, capture.PhotometricInterpretation = 3, "RGB"
    capture.PlanarConfiguration = 0
    capture.BitsAllocated = capture.BitsStored = 8
    capture.HighBit, capture.PixelRepresentation = 7, 0
    pixels = overlay.tobytes()
    capture.PixelData = pixels + bytes(len(pixels) % 2)  # of an even length
    capture.file_meta = FileMetaDataset()
    capture.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    capture.save_as(file, enforce_file_format=True)
