"""What simulated baggage promises: repeatable, physical, in the colours operators know, laid out as MVTec AD."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from scipy.ndimage import binary_dilation

from ganomaly.data.baggage import (
    THREAT_KINDS,
    SimulatedBag,
    materials,
    scanner,
    simulate_bag,
    simulate_patch,
    write_simulated_baggage,
)
from ganomaly.data.baggage.canvas import Canvas, rectangle
from ganomaly.errors import OutputError, UsageError

BLUR_RADIUS = 2  # pixels, of the focal spot


def same(a: SimulatedBag, b: SimulatedBag) -> bool:
    return (
        a.threat == b.threat
        and np.array_equal(a.image, b.image)
        and np.array_equal(a.low_energy, b.low_energy)
        and np.array_equal(a.high_energy, b.high_energy)
        and np.array_equal(a.threat_mask, b.threat_mask)
    )


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def colour_of(material: materials.Material, thickness: float) -> np.ndarray:
    """Return the noise-free colour [3] of a plate."""
    canvas = Canvas(16, 16, pitch=2.0)
    canvas.brush().fill(material, thickness, rectangle(0, 0, 100, 100))
    colours = scanner.pseudo_colour(scanner.transmission(canvas.low), scanner.transmission(canvas.high))
    return colours[8, 8].astype(int)


@pytest.mark.parametrize("threat", [None, *THREAT_KINDS])
def test_the_same_seed_gives_the_same_image(threat: str | None) -> None:
    assert same(simulate_bag(5, threat), simulate_bag(5, threat))
    assert same(simulate_patch(5, threat), simulate_patch(5, threat))


def test_another_seed_packs_another_bag() -> None:
    assert not same(simulate_bag(5, height=96, width=128), simulate_bag(6, height=96, width=128))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**63), threat=st.sampled_from([None, *THREAT_KINDS]))
def test_transmission_is_a_share_of_the_beam_and_the_harder_beam_passes_better(
    seed: int, threat: str | None
) -> None:
    bag = simulate_bag(seed, threat)
    for transmitted in (bag.low_energy, bag.high_energy):
        assert transmitted.dtype == np.float32
        assert transmitted.min() >= 0
        assert transmitted.max() <= 1
    assert (bag.low_energy <= bag.high_energy).all()


@pytest.mark.parametrize("threat", THREAT_KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_a_threat_darkens_its_mask_and_nothing_else(seed: int, threat: str) -> None:
    without, bag = simulate_bag(seed), simulate_bag(seed, threat)
    for before, after in ((without.low_energy, bag.low_energy), (without.high_energy, bag.high_energy)):
        outside = ~binary_dilation(bag.threat_mask, np.ones((3, 3)), BLUR_RADIUS)
        np.testing.assert_array_equal(after[outside], before[outside])
        inside = bag.threat_mask & (before > 0.01)
        assert (after[inside] < before[inside]).all()
    assert bag.threat_mask.sum() > 60
    assert not without.threat_mask.any()


def test_the_beam_is_weakened_as_beer_and_lambert_say() -> None:
    canvas = Canvas(8, 8, pitch=1.0)
    everywhere = rectangle(0, 0, 40, 40)
    canvas.brush().fill(materials.STEEL, 2.0, everywhere)
    canvas.brush().fill(materials.WATER, 30.0, everywhere)
    # 7.85 g/cm³ · 1.205 cm²/g · 0.2 cm + 1 g/cm³ · 0.206 cm²/g · 3 cm
    np.testing.assert_allclose(scanner.transmission(canvas.low), np.exp(-1.89185 - 0.618), rtol=1e-5)


def test_what_is_drawn_has_the_mass_it_should_have() -> None:
    canvas = Canvas(120, 120, pitch=1.5)
    ball = [(20 * np.sin(a), 20 * np.cos(a)) for a in np.linspace(-np.pi / 2, np.pi / 2, 41)]
    canvas.brush().moved(3.3, 1.7, 31).turned(materials.WATER, ball)
    volume = canvas.low.sum() * 1.5**2 / materials.WATER.attenuation_low
    assert volume == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.02)


def test_metal_is_blue_organic_is_orange_light_metal_is_green() -> None:
    red, green, blue = colour_of(materials.STEEL, 2.0)
    assert blue > green > red
    red, green, blue = colour_of(materials.WATER, 40.0)
    assert red > green > blue
    red, green, blue = colour_of(materials.ALUMINIUM, 12.0)
    assert green > red
    assert green > blue


def test_air_is_white_and_thick_steel_is_black() -> None:
    assert (colour_of(materials.COTTON, 0.0) == 255).all()
    assert colour_of(materials.STEEL, 60.0).max() < 30


def test_the_atomic_number_of_pure_elements_is_read_off_their_attenuation() -> None:
    for material, atomic_number in ((materials.ALUMINIUM, 13), (materials.STEEL, 26), (materials.COPPER, 29)):
        ratio = np.float32(material.attenuation_low / material.attenuation_high)
        assert scanner.effective_atomic_number(ratio) == pytest.approx(atomic_number, abs=0.3)


def test_bags_differ_in_size_unless_a_size_is_asked_for() -> None:
    assert len({simulate_bag(seed).image.shape for seed in range(4)}) > 1
    bag = simulate_bag(3, "gun", height=150, width=120)
    assert bag.image.shape == (150, 120, 3)
    assert bag.image.dtype == np.uint8
    assert bag.low_energy.shape == bag.high_energy.shape == bag.threat_mask.shape == (150, 120)


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("threat", [None, "knife"])
def test_a_patch_has_the_size_asked_for(size: int, threat: str | None) -> None:
    patch = simulate_patch(11, threat, size=size)
    assert patch.image.shape == (size, size, 3)
    assert patch.low_energy.shape == patch.threat_mask.shape == (size, size)


def test_a_threat_patch_shows_much_of_the_threat_and_a_normal_patch_shows_something() -> None:
    for seed in range(4):
        assert simulate_patch(seed, "gun").threat_mask.mean() > 0.15
        assert (simulate_patch(seed).low_energy < 0.9).mean() > 0.6


def test_the_mask_of_a_patch_covers_the_threat() -> None:
    for seed in range(4):
        patch = simulate_patch(seed, "gun")
        assert np.median(patch.high_energy[patch.threat_mask]) < 0.6 * np.median(
            patch.high_energy[~patch.threat_mask]
        )


def test_wrong_arguments_are_refused_in_words() -> None:
    with pytest.raises(UsageError, match="unknown threat 'bomb'; known are gun, gun_parts, knife"):
        simulate_bag(0, "bomb")
    with pytest.raises(UsageError, match="got -1"):
        simulate_patch(-1)
    with pytest.raises(UsageError, match="32 to 192"):
        simulate_patch(0, size=16)
    with pytest.raises(UsageError, match="height must be at least 32 pixels"):
        simulate_bag(0, height=8)


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("baggage") / "new" / "patches"
    write_simulated_baggage(folder, n_train=21, n_test_normal=10, n_test_per_threat=5, seed=3)
    return folder


def test_the_folder_has_the_layout_of_mvtec_ad(patches: Path) -> None:
    counted = Counter(str(Path(name).parent) for name in files(patches))
    assert counted.pop(".") == 1
    assert counted == {
        "train/good": 21,
        "test/good": 10,
        **{f"test/{threat}": 5 for threat in THREAT_KINDS},
        **{f"ground_truth/{threat}": 5 for threat in THREAT_KINDS},
    }
    assert sorted(path.name for path in patches.iterdir()) == ["README.txt", "ground_truth", "test", "train"]


def test_every_threat_image_has_a_mask_of_its_size_and_name(patches: Path) -> None:
    for threat in THREAT_KINDS:
        for image in (patches / "test" / threat).iterdir():
            mask = np.asarray(Image.open(patches / "ground_truth" / threat / f"{image.stem}_mask.png"))
            assert mask.shape == Image.open(image).size[::-1] == (64, 64)
            assert set(np.unique(mask)) == {0, 255}


def test_the_readme_says_that_the_images_are_simulated(patches: Path) -> None:
    assert "SIMULATED" in (patches / "README.txt").read_text(encoding="utf-8")


def test_no_image_is_there_twice(patches: Path) -> None:
    digests = [
        hashlib.sha256(data).hexdigest()
        for name, data in files(patches).items()
        if name.startswith(("train", "test"))
    ]
    assert len(set(digests)) == len(digests)


def test_no_bag_is_in_two_of_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ganomaly.data.baggage import folder

    packed: dict[str, list[bytes]] = {}
    pack = folder.packed_bag
    part = "train"

    def recorded(seed: np.random.SeedSequence, *size: int | None) -> object:
        bag = pack(seed, *size)
        packed.setdefault(part, []).append(bag.canvas.low.tobytes())
        return bag

    def follow(written: int) -> None:
        nonlocal part
        part = "train" if written < 12 else "test" if written < 24 else "threat"

    monkeypatch.setattr(folder, "packed_bag", recorded)
    write_simulated_baggage(tmp_path, n_train=12, n_test_normal=12, n_test_per_threat=1, progress=follow)
    bags = [bag for bags in packed.values() for bag in bags]
    assert {part: len(bags) for part, bags in packed.items()} == {"train": 2, "test": 2, "threat": 3}
    assert len(set(bags)) == len(bags)


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(patches: Path, tmp_path: Path) -> None:
    sizes = {"n_train": 21, "n_test_normal": 10, "n_test_per_threat": 5}
    write_simulated_baggage(tmp_path / "again", **sizes, seed=3)
    assert files(tmp_path / "again") == files(patches)
    write_simulated_baggage(tmp_path / "other", n_train=1, n_test_normal=0, n_test_per_threat=0, seed=4)
    first = "train/good/00000.png"
    assert files(tmp_path / "other")[first] != files(patches)[first]


def test_more_training_images_leave_the_test_images_as_they_are(patches: Path, tmp_path: Path) -> None:
    write_simulated_baggage(tmp_path, n_train=3, n_test_normal=10, n_test_per_threat=2, seed=3)
    fewer, more = files(tmp_path), files(patches)
    names = [name for name in fewer if name.endswith(".png")]
    assert len(names) == 3 + 10 + 3 * 2 * 2
    assert all(fewer[name] == more[name] for name in names)


def test_whole_bags_are_written_with_masks_of_their_own_size(tmp_path: Path) -> None:
    seen: list[int] = []
    write_simulated_baggage(
        tmp_path, kind="bags", n_train=2, n_test_normal=1, n_test_per_threat=1, progress=seen.append
    )
    assert seen == [1, 2, 3, 4, 5, 6]
    for threat in THREAT_KINDS:
        image = Image.open(tmp_path / "test" / threat / "00000.png")
        mask = Image.open(tmp_path / "ground_truth" / threat / "00000_mask.png")
        assert image.size == mask.size
        assert image.size[0] > 250


def test_whole_bags_are_written_without_their_threats_too(tmp_path: Path) -> None:
    write_simulated_baggage(tmp_path, kind="bags", n_train=0, n_test_normal=0, n_test_per_threat=1)
    for threat in THREAT_KINDS:
        ground_truth = tmp_path / "ground_truth" / threat
        image, without, mask = (
            np.asarray(Image.open(path)).astype(int)
            for path in (
                tmp_path / "test" / threat / "00000.png",
                ground_truth / "00000_without_defect.png",
                ground_truth / "00000_mask.png",
            )
        )
        near = ndimage.binary_dilation(mask > 0, iterations=6)  # blur and sharpening of the display
        assert (image == without)[~near].all()
        assert without[mask > 0].mean() > image[mask > 0].mean() + 5
    assert "_without_defect.png" in (tmp_path / "README.txt").read_text(encoding="utf-8")


def test_whole_weapons_are_whole_in_their_patches(tmp_path: Path) -> None:
    write_simulated_baggage(tmp_path, kind="whole weapons", n_train=2, n_test_normal=1, n_test_per_threat=8)
    assert [path.name for path in sorted((tmp_path / "test").iterdir())] == ["good", "gun"]
    masks = [
        np.asarray(Image.open(path)) > 0 for path in sorted((tmp_path / "ground_truth" / "gun").iterdir())
    ]
    assert {mask.shape for mask in masks} == {(64, 64)}
    touching = [np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).any() for mask in masks]
    assert not any(touching)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"keep me")
    with pytest.raises(UsageError, match=r"not empty \(it has holiday.jpg\)"):
        write_simulated_baggage(tmp_path, n_train=1, n_test_normal=1, n_test_per_threat=1)
    assert files(tmp_path) == {"holiday.jpg": b"keep me"}


def test_a_run_that_is_stopped_leaves_the_folder_empty(tmp_path: Path) -> None:
    def stop(written: int) -> None:
        if written == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_simulated_baggage(tmp_path, n_train=4, n_test_normal=0, n_test_per_threat=0, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_file_instead_of_the_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError, match="cannot write to"):
        write_simulated_baggage(tmp_path / "taken", n_train=1, n_test_normal=0, n_test_per_threat=0)


@pytest.mark.parametrize("name", ["n_train", "n_test_normal", "n_test_per_threat", "seed"])
def test_a_negative_number_is_refused(name: str, tmp_path: Path) -> None:
    numbers = {"n_train": 1, "n_test_normal": 1, "n_test_per_threat": 1, "seed": 0, name: -2}
    with pytest.raises(UsageError, match=f"{name} is a whole number from 0 up, got -2"):
        write_simulated_baggage(tmp_path, **numbers)
