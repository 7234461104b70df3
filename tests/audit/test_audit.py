"""The audit tells a model that sees defects from one that sees something else about the images."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from ganomaly.audit import MAX_MASKED, PaintedImages, audit_model, plan_audit
from ganomaly.audit.datasets import Painting, moved_mask
from ganomaly.audit.inpainting import painted_region
from ganomaly.data import Subset, open_test_images
from ganomaly.data.sources.dataset import JoinedImages
from ganomaly.metrics import audit_metrics
from ganomaly.prediction import Prediction
from images import textures, write_images

N = 24
SIZE = 64


class FunctionPredictor:
    """Scores each image, `uint8[H, W, C]`, by a function."""

    def __init__(self, score):
        self.score = score

    def predict(self, dataset, *, batch_size=64, device="auto", details=False):
        for index, record in enumerate(dataset.records):
            yield Prediction(index, record.path, score=float(self.score(dataset.read(index).astype(float))))


def whitest(image):
    """A model that sees the defect: it is the only white thing."""
    return np.sort(image.ravel())[-12:].mean()


def brightness(image):
    """A model that sees how the image was lit."""
    return np.median(image)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Textures with a white hole or scratch; all defective ones are brighter, as if photographed otherwise."""
    root = tmp_path_factory.mktemp("audit") / "parts"
    write_images(root / "train" / "good", textures(2, size=SIZE))
    rng = np.random.default_rng(2)

    def light(low, high):
        return rng.integers(low, high, (N, 1, 1), dtype=np.uint8)

    write_images(root / "test" / "good", textures(N, seed=1, size=SIZE) // 2 + light(0, 30))
    for number, kind in enumerate(("hole", "scratch")):
        images = textures(N, seed=3 + number, size=SIZE) // 2 + light(60, 90)
        masks = np.zeros((N, SIZE, SIZE), dtype=np.uint8)
        for image, mask in zip(images, masks, strict=True):
            row, column = rng.integers(8, SIZE - 20, 2)
            area = (
                np.s_[row : row + 5, column : column + 5]
                if kind == "hole"
                else np.s_[row, column : column + 12]
            )
            mask[area] = 255
            image[area] = 255
        write_images(root / "test" / kind, images)
        write_images(root / "ground_truth" / kind, masks, suffix="_mask.png")
    return open_test_images(root)


def audited(score, dataset, **options):
    model = FunctionPredictor(score)
    scores = {prediction.index: prediction.score for prediction in model.predict(dataset)}
    return audit_model(model, dataset, scores, plan_audit(dataset, scores), **options)


def test_a_model_that_sees_the_defect_passes(dataset):
    audit = audited(whitest, dataset).audit
    assert audit.image_auroc > 0.99
    assert audit.defect_auroc > 0.99
    assert audit.defect_pairs == 1
    assert 0.4 < audit.control_auroc < 0.6
    assert audit.is_conclusive
    assert list(audit.per_kind) == ["hole", "scratch"]
    assert audit.per_kind["hole"].n == audit.per_kind["hole"].n_control == N


def test_a_model_that_sees_only_the_light_is_found_out(dataset):
    audit = audited(brightness, dataset).audit
    assert audit.image_auroc > 0.99
    assert audit.painted_out_auroc > 0.99
    assert abs(audit.defect_auroc - 0.5) < 0.05
    assert abs(audit.control_auroc - 0.5) < 0.05
    assert audit.conclusion.startswith("The model sees mostly something other than the defects")


def test_a_model_that_sees_the_painting_makes_the_audit_say_nothing(dataset):
    originals = {dataset.read(index).tobytes() for index in range(len(dataset))}
    audit = audited(lambda image: image.astype(np.uint8).tobytes() not in originals, dataset).audit
    assert audit.control_auroc == 1
    assert audit.is_conclusive is False
    assert audit.conclusion.startswith("The audit says nothing about this model: it sees the painting itself")


def test_an_audit_repeats(dataset):
    assert audited(whitest, dataset).audit == audited(whitest, dataset).audit


def test_the_pairs_are_those_of_the_figures(dataset):
    result = audited(whitest, dataset)
    assert len(result.pairs) == result.audit.n == 2 * N
    higher = np.mean([pair.score > pair.painted_out_score for pair in result.pairs])
    assert higher == result.audit.defect_pairs
    assert result.failures == {}


def test_all_normal_images_are_painted_equally_often(dataset):
    plan = plan_audit(dataset, dict.fromkeys(range(len(dataset)), 1.0))
    counts = np.bincount([painting.image for painting in plan.controls])
    assert set(counts[counts > 0]) == {2}
    assert {painting.mask for painting in plan.controls} == {painting.image for painting in plan.defects}
    other = plan_audit(dataset, dict.fromkeys(range(len(dataset)), 1.0), seed=1)
    assert other.controls != plan.controls
    assert other.defects == plan.defects


def test_masks_above_a_tenth_and_images_without_masks_are_left_out_and_counted(tmp_path):
    root = tmp_path / "parts"
    write_images(root / "test" / "good", textures(4))
    write_images(root / "test" / "blob", textures(4, seed=1, blob=True))
    masks = np.zeros((3, 32, 32), dtype=np.uint8)
    masks[0, :10, :10] = 255  # 100 pixels of 1,024
    masks[1, :11, :10] = 255  # 110
    write_images(root / "ground_truth" / "blob", masks, suffix="_mask.png")  # the third is empty
    dataset = open_test_images(root)
    result = audited(brightness, dataset)
    assert masks[0].mean() / 255 <= MAX_MASKED < masks[1].mean() / 255
    assert (result.audit.n, result.audit.n_mask_too_large, result.audit.n_without_mask) == (1, 1, 2)


def test_nothing_to_audit_gives_null_and_a_sentence(tmp_path):
    root = tmp_path / "parts"
    write_images(root / "test" / "good", textures(4))
    write_images(root / "test" / "blob", textures(4, seed=1, blob=True))
    (root / "ground_truth").mkdir()
    audit = audited(brightness, open_test_images(root)).audit.to_json_dict()
    assert [audit[name] for name in ("defect_auroc", "painted_out_auroc", "control_auroc")] == [None] * 3
    assert audit["is_conclusive"] is None
    assert audit["conclusion"].startswith("Nothing could be audited")
    json.dumps(audit, allow_nan=False)


def test_painted_images_differ_only_where_they_are_painted(dataset):
    plan = plan_audit(dataset, dict.fromkeys(range(len(dataset)), 1.0))
    painted = PaintedImages(dataset, plan.paintings)
    for number, painting in enumerate(plan.paintings):
        original, changed = dataset.read(painting.image), painted.read(number)
        share = (original != changed).any(axis=2).mean()
        assert 0 < share < 0.25
        assert painted.records[number].path == dataset.records[painting.image].path


def test_a_jpeg_is_painted_at_the_size_at_which_it_is_decoded(tmp_path):
    root = tmp_path / "parts"
    for kind, seed in (("good", 0), ("hole", 1)):
        write_images(root / "test" / kind, textures(2, seed=seed, size=256), suffix=".jpg")
    mask = np.zeros((2, 256, 256), dtype=np.uint8)
    mask[:, 100:110, 60:70] = 255
    write_images(root / "ground_truth" / "hole", mask, suffix="_mask.png")
    dataset = open_test_images(root)
    plan = plan_audit(dataset, dict.fromkeys(range(len(dataset)), 1.0))
    painted = PaintedImages(dataset, plan.defects)
    small, original = painted.read(0, smallest_side=32), dataset.read(plan.defects[0].image, smallest_side=32)
    assert small.shape == original.shape
    assert small.shape[0] < 256
    assert 0 < (small != original).any(axis=2).mean() < 0.02


def test_a_mask_moves_to_an_image_of_another_size():
    mask = np.zeros((20, 30), dtype=bool)
    mask[-4:, 10:15] = True  # at the lower edge
    moved = moved_mask(mask, 40, 12)
    assert moved.sum() == mask.sum()
    assert moved[-4:].sum() == mask.sum()
    assert moved_mask(mask, 40, 4) is None
    assert moved_mask(mask, 20, 30) is mask


def test_equal_scores_count_half():
    audit = audit_metrics([2, 2], [2, 1], ["a", "b"], [1, 1], [1], [1], ["a"])
    assert audit.defect_pairs == 0.75
    assert audit.control_pairs == audit.control_auroc == 0.5
    assert audit.per_kind["b"].control_auroc is None


@pytest.mark.parametrize(
    ("with_defect", "without", "beginning"),
    [
        ([9, 9, 9], [1, 2, 3], "The model sees the defects: AUROC 1.00 with the defects, 0.50 without them."),
        ([9, 9, 9], [1.5, 2, 9], "The model sees the defects, and something else"),
        ([9, 9, 9], [9, 9, 9], "The model sees mostly something other than the defects"),
        ([1, 2, 3], [1, 2, 3], "The model does not tell these images from normal ones"),
    ],
)
def test_the_conclusion_says_what_is_seen(with_defect, without, beginning):
    n = 60
    audit = audit_metrics(
        with_defect * n, without * n, ["hole"] * 3 * n, [1, 2, 3] * n, [1, 2], [1, 2], ["hole"] * 2
    )
    assert audit.conclusion.startswith(beginning)


def test_what_may_be_chance_is_neither_held_against_a_model_nor_counted_for_it():
    normal = [1, 2, 3] * 2
    strong = audit_metrics([9] * 6, [1.5, 2, 9] * 2, ["hole"] * 6, normal, [1, 2], [1, 2], ["hole"] * 2)
    assert strong.conclusion.startswith(
        "The model sees the defects: AUROC 1.00 with the defects, 0.61 without them."
    )
    assert strong.conclusion.endswith("6 images are few; such figures are off by a tenth by chance.")
    weak = audit_metrics([1.5, 2, 9] * 2, [1, 2, 3] * 2, ["hole"] * 6, normal, [1, 2], [1, 2], ["hole"] * 2)
    assert weak.conclusion.startswith("The audit says nothing yet: AUROC 0.61 with the defects")
    assert weak.is_conclusive is False


def test_colour_and_16_bit_images_are_audited(tmp_path):
    root = tmp_path / "parts"
    rng = np.random.default_rng(0)
    for kind in ("good", "hole"):
        folder = root / "test" / kind
        folder.mkdir(parents=True)
        for number in range(3):
            image = rng.integers(1000, 3000, (40, 50)).astype(np.uint16)
            if kind == "hole":
                image[10:14, 10:14] = 60000
            Image.fromarray(image).save(folder / f"{number}.png")
    masks = np.zeros((3, 40, 50), dtype=np.uint8)
    masks[:, 10:14, 10:14] = 255
    (root / "ground_truth" / "hole").mkdir(parents=True)
    for number, mask in enumerate(masks):
        Image.fromarray(mask).save(root / "ground_truth" / "hole" / f"{number}_mask.png")
    audit = audited(np.max, open_test_images(root)).audit
    assert audit.defect_pairs == 1
    assert audit.painted_out_auroc < 1


def test_an_image_that_was_recorded_without_its_defect_is_not_painted(tmp_path):
    root = tmp_path / "parts"
    write_images(root / "test" / "good", textures(4))
    normal = textures(4, seed=1)
    defective = normal.copy()
    defective[:, 4:28, 4:28] = 255  # more than is ever painted, and no mask
    write_images(root / "test" / "blob", defective)
    write_images(root / "ground_truth" / "blob", normal, suffix="_without_defect.png")
    dataset = open_test_images(root)
    assert len(dataset) == 8
    result = audited(brightness, dataset)
    assert (result.audit.n, result.audit.n_recorded, result.audit.n_control) == (4, 4, 0)
    assert [pair.painted_out_score for pair in result.pairs] == [np.median(image) for image in normal]
    assert result.audit.defect_auroc == 1
    assert result.audit.control_auroc is None
    assert result.audit.is_conclusive
    assert result.audit.conclusion.startswith("The model sees the defects")


def test_parts_and_joined_datasets_have_the_images_without_defects_too(tmp_path):
    root = tmp_path / "parts"
    write_images(root / "test" / "blob", textures(2))
    write_images(root / "ground_truth" / "blob", textures(1, seed=5), suffix="_without_defect.png")
    dataset = open_test_images(root)
    part = Subset(dataset, np.array([1, 0]))
    for images, recorded in (
        (dataset, [True, False]),
        (part, [False, True]),
        (JoinedImages([part, part], "two"), [False, True] * 2),
    ):
        opened = [images.open_without_defect(index) for index in range(len(images))]
        assert [image is not None for image in opened] == recorded
        with opened[recorded.index(True)] as image:
            assert (image.decode()[..., 0] == textures(1, seed=5)[0]).all()


def test_images_of_physical_values_are_painted_as_the_pixels_they_are_mapped_to(tmp_path):
    """As those of DICOM and floating-point TIFF, which have no pixels of their own."""
    values = np.linspace(0, 100, 32 * 32, dtype=np.float32).reshape(32, 32)
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[8:12, 20:26] = 255
    for folder in ("test/good", "test/crack", "ground_truth/crack"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("test/good", "test/crack"):
        tifffile.imwrite(tmp_path / folder / "0.tiff", values)
    Image.fromarray(mask).save(tmp_path / "ground_truth" / "crack" / "0_mask.png")
    images = open_test_images(tmp_path)
    cracked = next(index for index, record in enumerate(images.records) if record.is_anomalous)
    painted = PaintedImages(images, [Painting(cracked, cracked)]).read(0, value_range=(0.0, 100.0))
    original = images.read(cracked, value_range=(0.0, 100.0))
    assert painted.dtype == original.dtype == np.uint16
    assert (painted != original).any()
    outside = ~painted_region(mask != 0)
    np.testing.assert_array_equal(painted[outside], original[outside])
