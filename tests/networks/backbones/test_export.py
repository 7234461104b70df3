"""A backbone becomes a graph that takes images of any size."""

import numpy as np
import pytest
import torch
from torch.export import Dim

from ganomaly.export.write import EXAMPLE_SHAPE, OPSET, silence
from ganomaly.networks.backbones import Backbone, load_backbone
from small_backbones import LEVELS, MODELS

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


class FeatureMaps(torch.nn.Module):
    """All levels of a backbone."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x):
        return tuple(self.backbone(x, list(self.backbone.levels)))


def check_graph(backbone: Backbone) -> None:
    """Compare the feature maps of the graph with those of the network, for images of several sizes."""
    module = FeatureMaps(backbone)
    n_images, height, width = EXAMPLE_SHAPE
    example = torch.zeros(n_images, 1, height, width)
    sizes = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    with silence("torch.onnx", "torch.export", "onnxscript"):
        program = torch.export.export(module, (example,), dynamic_shapes=(sizes,))
        graph = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False)
    session = onnxruntime.InferenceSession(graph.model_proto.SerializeToString())
    for shape in ((1, 1, 64, 64), (3, 1, 101, 157)):
        x = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        of_graph = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        for expected, actual in zip(module(x), of_graph, strict=True):
            assert actual.shape == expected.shape
            assert np.abs(actual - expected.numpy()).max() <= 1e-5 * expected.abs().max()


def test_the_default_backbone():
    check_graph(load_backbone("efficientnet-lite0", ["block4", "block10", "block14"]))


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"swin"}))  # over which the exporter takes minutes
def test_a_backbone_of_transformers(folders, name):
    check_graph(load_backbone(str(folders[name]), LEVELS[name]))
