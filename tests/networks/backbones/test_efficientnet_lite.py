"""The network is the published one: its known predictions, its size, its shapes."""

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from ganomaly.errors import UsageError
from ganomaly.networks.backbones.efficientnet_lite import (
    PIXEL_MEAN,
    PIXEL_STD,
    EfficientNetLite,
    fold_batch_norms,
)
from ganomaly.networks.backbones.lite import VARIANTS, read_weights

PREDICTIONS = {
    "china.jpg": ([698, 442, 663], [0.3011, 0.2218, 0.1034]),
    "flower.jpg": ([985, 947, 309], [0.2275, 0.1140, 0.0491]),
}
"""The three likeliest classes of ImageNet (palace, bell cote, monastery; daisy, …), and Lite0's probabilities."""


def network_input(file_name: str) -> torch.Tensor:
    """The central square at 224 px, as the network was trained."""
    image = Image.fromarray(load_sample_image(file_name))
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(1, 224, 224, 3)
    return (pixels.permute(0, 3, 1, 2) - PIXEL_MEAN) / PIXEL_STD


def with_weights(name: str) -> EfficientNetLite:
    try:
        weights = read_weights(name)
    except UsageError as error:
        pytest.skip(str(error))
    network = EfficientNetLite(VARIANTS[name].width, VARIANTS[name].depth)
    network.load_state_dict(weights)
    return network.eval()


@pytest.mark.parametrize("file_name", PREDICTIONS)
def test_known_images_get_the_known_classes(file_name):
    classes, probabilities = PREDICTIONS[file_name]
    with torch.inference_mode():
        predicted = with_weights("efficientnet-lite0")(network_input(file_name)).softmax(dim=1)[0]
    likeliest = predicted.topk(3)
    assert likeliest.indices.tolist() == classes
    assert likeliest.values.tolist() == pytest.approx(probabilities, abs=2e-4)


@pytest.mark.parametrize("name", ["efficientnet-lite1", "efficientnet-lite2"])
def test_the_larger_variants_are_surer_of_the_palace(name):
    with torch.inference_mode():
        predicted = with_weights(name)(network_input("china.jpg")).softmax(dim=1)[0]
    assert predicted.argmax() == 698
    assert predicted.max() > 0.5


@pytest.mark.parametrize(
    ("name", "millions"),
    [("efficientnet-lite0", 4.7), ("efficientnet-lite1", 5.4), ("efficientnet-lite2", 6.1)],
)
def test_the_variants_have_as_many_parameters_as_published(name, millions):
    with torch.device("meta"):
        network = EfficientNetLite(VARIANTS[name].width, VARIANTS[name].depth)
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    assert n_parameters / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize("side", [31, 32, 33, 75])
def test_each_block_gives_a_position_for_each_stride_begun(side):
    network = EfficientNetLite(n_blocks=15).eval()
    blocks = list(range(15))
    with torch.inference_mode():
        maps = network.features(torch.zeros(1, 3, side, 64), blocks)
    for feature_map, stride, channels in zip(maps, network.strides, network.channels, strict=False):
        assert feature_map.shape == (1, channels, -(-side // stride), 64 // stride)


def test_folded_batch_norms_change_the_feature_maps_by_rounding_only():
    network = with_weights("efficientnet-lite0")
    x = network_input("china.jpg")
    blocks = list(range(16))
    with torch.inference_mode():
        before = network.features(x, blocks)
        fold_batch_norms(network)
        after = network.features(x, blocks)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    for feature_map, folded in zip(before, after, strict=True):
        assert (feature_map - folded).abs().max() <= 1e-5 * feature_map.abs().max()
