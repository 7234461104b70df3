"""One of anomalib's models, which answers `peers.py`; runs in the environment of `peer_environment.py`.

The weights are random, since none can be had without a hub: times and memory do not depend on them, verdicts would.
Only the PyTorch modules run, without Lightning's engine, which is to anomalib's favour. The bank of PatchCore is
filled at the size that the training images would give, 10 % or 1 % of their positions.

What a whole training takes follows from a part of it: the steps of PatchCore's coreset are all alike, at their full
size, and those of EfficientAD and GANomaly too.
"""

import argparse
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workers import Answer, answer_requests, peak_megabytes, seconds, timed

OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
    "_roi_align_backward(Tensor grad, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "SymInt batch_size, SymInt channels, SymInt height, SymInt width, int sampling_ratio, bool aligned) -> Tensor",
    "roi_pool(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width) "
    "-> (Tensor, Tensor)",
    "_roi_pool_backward(Tensor grad, Tensor rois, Tensor argmax, float spatial_scale, SymInt pooled_height, "
    "SymInt pooled_width, SymInt batch_size, SymInt channels, SymInt height, SymInt width) -> Tensor",
    "ps_roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio) -> (Tensor, Tensor)",
    "_ps_roi_align_backward(Tensor grad, Tensor rois, Tensor channel_mapping, float spatial_scale, "
    "SymInt pooled_height, SymInt pooled_width, int sampling_ratio, SymInt batch_size, SymInt channels, "
    "SymInt height, SymInt width) -> Tensor",
    "ps_roi_pool(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width) "
    "-> (Tensor, Tensor)",
    "_ps_roi_pool_backward(Tensor grad, Tensor rois, Tensor channel_mapping, float spatial_scale, "
    "SymInt pooled_height, SymInt pooled_width, SymInt batch_size, SymInt channels, SymInt height, SymInt width) "
    "-> Tensor",
    "deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, "
    "SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, "
    "SymInt offset_groups, bool use_mask) -> Tensor",
    "_deform_conv2d_backward(Tensor grad, Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, "
    "SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, "
    "SymInt groups, SymInt offset_groups, bool use_mask) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
"""torchvision's operators: its own library is built for another PyTorch, none of these models calls them."""

SIZE = 256
STRIDE = 8  # of PatchCore's positions
BATCH = 32  # anomalib's, of training and of folders
EFFICIENT_AD_STEPS = 70_000  # as published; batches of one image
GANOMALY_EPOCHS = 100  # of anomalib's configuration
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ScoreAndMap(nn.Module):
    """A model with its normalisation: from pixels, `uint8[N, H, W, 3]`, to score and map."""

    model: Any  # anomalib is not typed
    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def normalised(self, pixels: Tensor) -> Tensor:
        """The network input, `float[N, 3, H, W]`."""
        x = (pixels.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        return x.contiguous()

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Score, `float[N]`, and map where the model has one."""
        prediction = self.model(self.normalised(pixels))
        given = (prediction.pred_score, prediction.anomaly_map)
        return tuple(part for part in given if part is not None)


class System:
    """A model, its predictions and a part of its training."""

    def __init__(self, name: str, runtime: str, n_training: int) -> None:
        torch.manual_seed(0)
        self.name, self.n_training = name, n_training
        self.module = make_module(name, n_training).eval()
        self.run: Callable[[np.ndarray[Any, Any]], object] = self._run_pytorch
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name)
        if runtime == "openvino":
            self.run = self._openvino(path / "model.xml")
        else:
            torch.save(self.module.state_dict(), path / "model.pt")
        self.file_bytes = sum(file.stat().st_size for file in path.iterdir())

    def describe(self) -> Answer:
        """Versions, and what the model takes on disk."""
        from importlib.metadata import version

        packages = ("anomalib", "torch", "timm", "openvino")
        return {
            "versions": {package: version(package) for package in packages},
            "file_megabytes": self.file_bytes / 1e6,
        }

    def predict(self, images: int = 1, warm_up: int = 1) -> Answer:
        """Seconds for a number of images, one by one or in batches as anomalib's engine takes a folder."""
        batch = min(images, BATCH)
        pixels = np.random.default_rng(0).integers(0, 255, (batch, SIZE, SIZE, 3), dtype=np.uint8)
        for _ in range(warm_up):
            self.run(pixels)
        rounds = images // batch
        took = timed(lambda: [self.run(pixels) for _ in range(rounds)])
        scaled = {clock: value * images / (rounds * batch) for clock, value in took.items()}
        return scaled | {"peak_megabytes": peak_megabytes()}

    def fit(self, sample: int = 16, steps: int = 20) -> Answer:
        """Seconds of a whole training, from a sample of its images and steps."""
        kind = self.name.partition(" ")[0]
        took = {"PatchCore": self._fit_patchcore, "EfficientAD-S": self._fit_efficient_ad}.get(
            kind, self._fit_ganomaly
        )(sample, steps)
        return {"seconds": took, "peak_megabytes": peak_megabytes()}

    def _run_pytorch(self, pixels: np.ndarray[Any, Any]) -> object:
        with torch.inference_mode():
            return [part.numpy() for part in self.module(torch.from_numpy(pixels))]

    def _openvino(self, path: Path) -> Callable[[np.ndarray[Any, Any]], object]:
        import openvino

        example = torch.zeros(1, SIZE, SIZE, 3, dtype=torch.uint8)
        with torch.no_grad():
            graph = openvino.convert_model(
                self.module, example_input=example, input=[("pixels", [-1, SIZE, SIZE, 3])]
            )
        openvino.save_model(graph, path, compress_to_fp16=False)
        compiled = openvino.Core().compile_model(path, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
        request = compiled.create_infer_request()
        return lambda pixels: [np.array(value) for value in request.infer([pixels]).values()]

    def _fit_patchcore(self, sample: int, steps: int) -> float:
        from anomalib.models.components.sampling.k_center_greedy import KCenterGreedy

        model = self.module.model
        model.train()
        model.feature_extractor.eval()
        pixels = torch.randint(0, 255, (sample, SIZE, SIZE, 3), dtype=torch.uint8)
        with torch.no_grad():
            model(self.module.normalised(pixels[:2]))  # warm up
            model.embedding_store.clear()
            embedding_seconds = seconds(lambda: model(self.module.normalised(pixels)))
            embeddings = torch.vstack(model.embedding_store).repeat(-(-self.n_training // sample), 1)
            embeddings = embeddings[: self.n_training * (SIZE // STRIDE) ** 2]
            embeddings += 0.01 * torch.randn(embeddings.shape[1])  # in place, as large as the whole data
            sampler = KCenterGreedy(embeddings, len(model.memory_bank) / len(embeddings))

            def project() -> None:
                sampler.model.fit(embeddings)
                sampler.features = sampler.model.transform(embeddings)

            projection_seconds = seconds(project)
            times = []
            index = torch.tensor(0)
            for _ in range(steps):

                def step() -> None:
                    nonlocal index
                    sampler.update_distances(cluster_center=index)
                    index = sampler.get_new_idx()

                times.append(seconds(step))
        model.eval()
        coreset_seconds = len(model.memory_bank) * median(times)
        return embedding_seconds * self.n_training / sample + projection_seconds + coreset_seconds

    def _fit_efficient_ad(self, sample: int, steps: int) -> float:
        model = self.module.model.train()
        optimizer = torch.optim.Adam([*model.student.parameters(), *model.ae.parameters()], lr=1e-4)
        image, other = torch.rand(2, 1, 3, SIZE, SIZE)

        def step() -> None:
            optimizer.zero_grad()
            sum(model(image, other)).backward()
            optimizer.step()

        step()  # the first is slower
        times = [seconds(step) for _ in range(steps)]
        model.eval()
        return EFFICIENT_AD_STEPS * median(times)

    def _fit_ganomaly(self, sample: int, steps: int) -> float:
        from anomalib.models.image.ganomaly.loss import DiscriminatorLoss, GeneratorLoss

        model = self.module.model.train()
        losses = GeneratorLoss(), DiscriminatorLoss()
        generator = torch.optim.Adam(model.generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        discriminator = torch.optim.Adam(model.discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        x = torch.rand(BATCH, 3, SIZE, SIZE)

        def step() -> None:
            padded, fake, latent, latent_of_fake = model(x)
            real_prediction, _ = model.discriminator(padded)
            fake_prediction, _ = model.discriminator(fake)
            generator.zero_grad()
            losses[0](latent, latent_of_fake, padded, fake, real_prediction, fake_prediction).backward(
                retain_graph=True
            )
            generator.step()
            fake_prediction, _ = model.discriminator(fake.detach())
            discriminator.zero_grad()
            losses[1](real_prediction, fake_prediction).backward()
            discriminator.step()

        step()
        times = [seconds(step) for _ in range(max(2, steps // 5))]
        model.eval()
        return GANOMALY_EPOCHS * -(-self.n_training // BATCH) * median(times)


def make_module(name: str, n_training: int) -> ScoreAndMap:
    """A model of random weights; `PatchCore wide_resnet50_2 0.1` names backbone and share of the bank."""
    kind, *details = name.split()
    if kind == "PatchCore":
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel

        backbone, share = details[0], float(details[1])
        patchcore = PatchcoreModel(["layer2", "layer3"], backbone, pre_trained=False)
        rows = int(n_training * (SIZE // STRIDE) ** 2 * share)
        patchcore.memory_bank = torch.randn(rows, sum(patchcore.feature_extractor.out_dims))
        return ScoreAndMap(patchcore, MEAN, STD)
    if kind == "EfficientAD-S":
        from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel

        return ScoreAndMap(EfficientAdModel(), (0, 0, 0), (1, 1, 1))  # it normalises by itself
    from anomalib.models.image.ganomaly.torch_model import GanomalyModel

    ganomaly = GanomalyModel((SIZE, SIZE), num_input_channels=3, n_features=64, latent_vec_size=100)
    return ScoreAndMap(ganomaly, MEAN, STD)


def declare_operators() -> torch.library.Library:
    """Declare torchvision's operators; the caller holds what is returned for as long as it needs them."""
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]  # PyTorch does not type it
    for operator in OPERATORS:
        library.define(operator)  # type: ignore[no-untyped-call]
    return library


def main() -> None:
    """Build the system that is named and answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--runtime", choices=("pytorch", "openvino"), default="pytorch")
    parser.add_argument("--training-images", type=int, default=761)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    library = declare_operators()
    system = System(arguments.name, arguments.runtime, arguments.training_images)
    answer_requests({"describe": system.describe, "predict": system.predict, "fit": system.fit})
    del library


if __name__ == "__main__":
    main()
