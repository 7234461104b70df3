"""Backbones of transformers: small ones that the tests make and save, without a network."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ganomaly.errors import ModelFileError, UsageError
from ganomaly.networks.backbones import backbone_levels, build_backbone, load_backbone
from small_backbones import LEVELS, MODELS

transformers = pytest.importorskip("transformers")


@pytest.fixture
def resnet(folders, tmp_path) -> Path:
    """A copy of the small ResNet to change."""
    for file in folders["resnet"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(2, 3, 75, 130, generator=torch.Generator().manual_seed(0)) * 2 - 1


each_model = pytest.mark.parametrize("name", MODELS)


@each_model
def test_levels_are_measured(folders, name):
    assert backbone_levels(str(folders[name])) == LEVELS[name]


@each_model
def test_feature_maps_have_the_size_that_the_levels_say_for_any_image(folders, name, image):
    levels = list(LEVELS[name])
    backbone = load_backbone(str(folders[name]), levels)
    multiple = max(level.stride for level in backbone.levels.values())
    for level, feature_map in zip(levels, backbone(image, levels), strict=True):
        stride, channels = LEVELS[name][level]
        sides = [-(-side // multiple) * multiple // stride for side in image.shape[2:]]
        assert feature_map.shape == (2, channels, *sides)


def test_feature_maps_are_the_hidden_states_of_the_saved_model(folders):
    x = torch.rand(1, 3, 64, 96) * 2 - 1
    normalised = ((x + 1) / 2 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    model = transformers.ResNetForImageClassification.from_pretrained(folders["resnet"]).eval()
    with torch.inference_mode():
        expected = model(normalised, output_hidden_states=True).hidden_states
        maps = load_backbone(str(folders["resnet"]), ["stage2", "stage3"])(x, ["stage3", "stage2"])
    assert torch.allclose(maps[0], expected[3], atol=1e-5)
    assert torch.allclose(maps[1], expected[2], atol=1e-5)


@each_model
def test_a_network_that_ends_with_the_deepest_level_gives_the_same(folders, name):
    x = torch.rand(1, 3, 224, 224) * 2 - 1
    whole = load_backbone(str(folders[name]), LEVELS[name])
    part = load_backbone(str(folders[name]), ["stage2"])
    assert torch.equal(part(x, ["stage2"])[0], whole(x, ["stage2"])[0])
    if name != "swin":  # whose last norm belongs to its last stage
        assert len(part.state_dict()) < len(whole.state_dict())


@each_model
def test_description_and_weights_make_the_same_backbone_again(folders, name, image):
    levels = list(LEVELS[name])[1:]
    backbone = load_backbone(str(folders[name]), levels)
    rebuilt = build_backbone(json.loads(json.dumps(backbone.describe())))
    rebuilt.load_state_dict(backbone.state_dict())
    assert rebuilt.name == name
    assert rebuilt.levels == backbone.levels
    assert all(
        torch.equal(*maps) for maps in zip(backbone(image, levels), rebuilt(image, levels), strict=True)
    )


@each_model
def test_it_is_frozen_and_the_feature_maps_of_an_image_do_not_depend_on_its_batch(folders, name, image):
    levels = list(LEVELS[name])
    backbone = load_backbone(str(folders[name]), levels).train()
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    for alone, together in zip(backbone(image[:1], levels), backbone(image, levels), strict=True):
        assert (alone[0] - together[0]).abs().max() <= 1e-5 * together.abs().max()


def test_the_folder_says_how_pixels_are_normalised(resnet, image):
    imagenet = load_backbone(str(resnet), ["stage1"])(image, ["stage1"])[0]
    settings = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.25, 0.25, 0.5], "rescale_factor": 1 / 255}
    (resnet / "preprocessor_config.json").write_text(json.dumps(settings))
    backbone = load_backbone(str(resnet), ["stage1"])
    described = backbone.describe()
    assert described["mean"] == pytest.approx(settings["image_mean"])
    assert described["std"] == pytest.approx(settings["image_std"])
    assert not torch.allclose(backbone(image, ["stage1"])[0], imagenet)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"do_normalize": False}, ([0, 0, 0], [1, 1, 1])),
        # the network's input is pixel − 0.5, of pixels from 0 to 255
        (
            {"do_rescale": False, "image_mean": [0.5] * 3, "image_std": [1.0] * 3},
            ([0.5 / 255] * 3, [1 / 255] * 3),
        ),
        # pixels from 0 to 2
        (
            {"rescale_factor": 2 / 255, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
            ([0.5] * 3, [0.5] * 3),
        ),
    ],
)
def test_the_scale_of_pixels_may_be_another(resnet, settings, expected):
    (resnet / "preprocessor_config.json").write_text(json.dumps(settings))
    described = load_backbone(str(resnet), ["stage1"]).describe()
    assert (described["mean"], described["std"]) == (pytest.approx(expected[0]), pytest.approx(expected[1]))


def test_weights_in_half_precision_become_single(resnet):
    model = transformers.AutoModelForImageClassification.from_pretrained(resnet)
    model.half().save_pretrained(resnet)
    assert {tensor.dtype for tensor in load_backbone(str(resnet), ["stage2"]).parameters()} == {torch.float32}


def test_weights_may_stand_in_several_files(resnet, image):
    expected = load_backbone(str(resnet), ["stage4"])(image, ["stage4"])[0]
    model = transformers.AutoModelForImageClassification.from_pretrained(resnet)
    (resnet / "model.safetensors").unlink()
    model.save_pretrained(resnet, max_shard_size="20KB")
    assert len(list(resnet.glob("*.safetensors"))) > 1
    assert torch.equal(load_backbone(str(resnet), ["stage4"])(image, ["stage4"])[0], expected)


def test_pickled_weights_are_refused_unread(resnet):
    (resnet / "model.safetensors").unlink()
    (resnet / "pytorch_model.bin").write_bytes(pickle.dumps({"weights": 1}))
    with pytest.raises(ModelFileError) as refused:
        load_backbone(str(resnet), ["stage2"])
    assert str(refused.value) == (
        f"{resnet} has its weights in pytorch_model.bin only; that is a pickle, which may run code and is never "
        "read, so save them as safetensors"
    )


def change_config(folder: Path, **settings: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def test_nothing_in_the_folder_can_make_transformers_run_or_download_code(resnet, image):
    expected = load_backbone(str(resnet), ["stage2"])(image, ["stage2"])[0]
    (resnet / "modeling_evil.py").write_text("raise RuntimeError('the code of the folder runs')")
    change_config(
        resnet,
        auto_map={"AutoConfig": "modeling_evil.Config", "AutoBackbone": "modeling_evil.Backbone"},
        attn_implementation="somebody/kernels",
        quantization_config={"quant_method": "bitsandbytes"},
    )
    (resnet / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "somebody/model"}))
    backbone = load_backbone(str(resnet), ["stage2"])
    assert torch.equal(backbone(image, ["stage2"])[0], expected)
    description = backbone.describe()
    description["config"] |= {
        "attn_implementation": "somebody/kernels",
        "auto_map": {"AutoBackbone": "a--b.C"},
    }
    build_backbone(description)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), ModelFileError, "no config.json"),
        (
            lambda folder: (folder / "config.json").write_text("{"),
            ModelFileError,
            "config.json cannot be read",
        ),
        (lambda folder: (folder / "config.json").write_text("[]"), ModelFileError, "no JSON object"),
        (
            lambda folder: change_config(folder, model_type="resnext"),
            ModelFileError,
            "no model that transformers",
        ),
        (lambda folder: change_config(folder, depths="many"), ModelFileError, "no model that transformers"),
        (lambda folder: change_config(folder, model_type="bert"), UsageError, "cannot be used as a backbone"),
        (lambda folder: change_config(folder, num_channels=4), UsageError, "images of 4 channels"),
        (
            lambda folder: change_config(folder, depths=[1, 2, 1, 1]),
            ModelFileError,
            "is missing or of another shape",
        ),
        (
            lambda folder: change_config(folder, hidden_sizes=[8, 12, 24, 20]),
            ModelFileError,
            "is missing or of another shape",
        ),
        (
            lambda folder: (folder / "model.safetensors").unlink(),
            ModelFileError,
            "there is no model.safetensors",
        ),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"1234567890"),
            ModelFileError,
            "model.safetensors are damaged",
        ),
    ],
)
def test_a_folder_that_is_no_backbone_is_refused_in_one_sentence(resnet, damage, error, message):
    damage(resnet)
    with pytest.raises(error, match=message) as refused:
        load_backbone(str(resnet), ["stage3"])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("model_type", ["resnet-of-tomorrow", "timm_backbone"])
def test_a_description_that_this_transformers_cannot_build_is_refused(resnet, model_type):
    description = load_backbone(str(resnet), ["stage2"]).describe()
    description["config"]["model_type"] = model_type
    with pytest.raises(ModelFileError, match="cannot be built with transformers 5"):
        build_backbone(description)


def test_an_unknown_level_is_refused_with_those_there_are(folders):
    with pytest.raises(UsageError, match="has no level block4; its levels are stem, stage1, stage2"):
        load_backbone(str(folders["swin"]), ["block4"])


def test_a_model_of_the_hub_is_not_had_offline(tmp_path):
    program = (
        "from ganomaly.errors import UsageError\n"
        "from ganomaly.networks.backbones import load_backbone\n"
        "try: load_backbone('hf:somebody/resnet', ['stage2'])\n"
        "except UsageError as error: print(error)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    message = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert message.startswith("the backbone hf:somebody/resnet cannot be had from the Hugging Face hub (")
    assert message.count("\n") == 1


def test_a_model_of_the_hub_is_loaded_from_the_cache(resnet, monkeypatch, image):
    asked = []

    def from_cache(repository, allow_patterns):
        asked.append((repository, allow_patterns))
        return str(resnet)

    monkeypatch.setattr("huggingface_hub.snapshot_download", from_cache)
    backbone = load_backbone("hf:somebody/resnet", ["stage2"])
    assert backbone.name == "hf:somebody/resnet"
    ((repository, patterns),) = asked
    assert repository == "somebody/resnet"
    assert all(pattern.endswith((".json", ".safetensors")) for pattern in patterns)
    assert backbone(image, ["stage2"])[0].shape[1] == 12


def test_without_transformers_the_command_to_install_it_is_said(folders):
    program = (
        "import sys; sys.modules['transformers'] = None\n"
        "from ganomaly.errors import UsageError\n"
        "from ganomaly.networks.backbones import load_backbone\n"
        "try: load_backbone(sys.argv[1], ['stage2'])\n"
        "except UsageError as error: sys.exit('pip install transformers' not in str(error))"
    )
    subprocess.run([sys.executable, "-c", program, str(folders["resnet"])], check=True)
