"""Maps as DICOM Secondary Captures: filed with the image's study, and shown as the overlay."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import CTImageStorage, SecondaryCaptureImageStorage, generate_uid

from dicom_files import NAME, write_dicom
from ganomaly.calibration import MapCalibration
from ganomaly.data import open_images
from ganomaly.data.readers.decoding import decode_image
from ganomaly.outputs import MapFolder
from ganomaly.prediction import Prediction

CALIBRATION = MapCalibration(
    medians=np.array([1.0, 2.0, 3.0]), maxima=np.array([4.0, 5.0, 10.0]), false_alarm_rate=0.25
)
SAMPLES = np.arange(7 * 9, dtype=np.uint8).reshape(7, 9)  # an odd number of bytes
STUDY = generate_uid()


def drawn(images: Path, folder: Path) -> list[Prediction]:
    dataset = open_images([images])
    anomaly_map = np.linspace(0, 20, 7 * 9, dtype=np.float32).reshape(7, 9)
    predictions = [
        Prediction(index, record.path, score=1.0, height=7, width=9, anomaly_map=anomaly_map)
        for index, record in enumerate(dataset.records)
    ]
    return list(MapFolder(folder, CALIBRATION, "dcm").draw_all(predictions, dataset, 255))


def test_a_capture_belongs_to_the_study_of_its_image_and_shows_the_overlay(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "scan.dcm", SAMPLES, patient="P-1", StudyInstanceUID=STUDY, StudyID="7")
    (prediction,) = drawn(path, tmp_path / "maps")
    assert prediction.error is None
    capture = pydicom.dcmread(tmp_path / "maps" / "scan.dcm")
    source = pydicom.dcmread(path)
    assert capture.SOPClassUID == capture.file_meta.MediaStorageSOPClassUID == SecondaryCaptureImageStorage
    assert (capture.PatientName, capture.PatientID, capture.StudyInstanceUID) == (NAME, "P-1", STUDY)
    assert (capture.StudyID, capture.StudyDate, capture.Modality) == ("7", "", "OT")
    assert capture.SOPInstanceUID not in (source.SOPInstanceUID, capture.SeriesInstanceUID)
    (reference,) = capture.SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert reference.ReferencedSOPClassUID == CTImageStorage
    overlay = np.asarray(Image.open(tmp_path / "maps" / "scan_overlay.png"))
    np.testing.assert_array_equal(capture.pixel_array, overlay)
    np.testing.assert_array_equal(decode_image(tmp_path / "maps" / "scan.dcm"), overlay)


def test_captures_of_frames_have_identifiers_of_their_own_and_the_same_ones_again(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "scan.dcm", np.stack([SAMPLES, SAMPLES]), StudyInstanceUID=STUDY)
    drawn(path, tmp_path / "maps")
    drawn(path, tmp_path / "again")
    first, second = (pydicom.dcmread(tmp_path / "maps" / f"scan_{frame}.dcm") for frame in (1, 2))
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert [each.SourceImageSequence[0].ReferencedFrameNumber for each in (first, second)] == [1, 2]
    again = pydicom.dcmread(tmp_path / "again" / "scan_1.dcm")
    assert again.SOPInstanceUID == first.SOPInstanceUID


def test_a_second_run_replaces_its_own_captures_only(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "scan.dcm", SAMPLES, StudyInstanceUID=STUDY)
    drawn(path, tmp_path / "maps")
    folder = MapFolder(tmp_path / "maps", CALIBRATION, "dcm")
    folder.check_replaceable([str(path)])
    (tmp_path / "maps" / "scan_overlay.png").unlink()
    with pytest.raises(ValueError, match=r"scan\.dcm"):
        folder.check_replaceable([str(path)])


def test_what_cannot_be_filed_has_an_error_in_its_row(tmp_path: Path) -> None:
    Image.fromarray(SAMPLES).save(tmp_path / "part.png")
    (prediction,) = drawn(tmp_path / "part.png", tmp_path / "maps")
    assert "no DICOM file" in str(prediction.error)
    path = write_dicom(tmp_path / "scan.dcm", SAMPLES)
    (prediction,) = drawn(path, tmp_path / "maps")
    assert "names no study" in str(prediction.error)
    assert not list((tmp_path / "maps").iterdir())
