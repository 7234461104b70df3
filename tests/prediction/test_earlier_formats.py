"""Names of earlier formats lead to names of today; `test_earlier_models` loads whole files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from ganomaly.config import Preprocessing
from ganomaly.errors import ModelFileError
from ganomaly.methods import METHODS, find_method
from ganomaly.prediction.earlier_formats import OPTIONS, TENSORS, upgraded
from ganomaly.prediction.model_file import load_model
from model_files import read_model_file, write_model_file

MODELS = sorted((Path(__file__).parent / "models").glob("*.safetensors"))


OFF_BY_DEFAULT = {"backbone", "levels", "backbone_description"}
"""Options that came later, and whose defaults leave a model as it was."""


@pytest.mark.parametrize("method", OPTIONS)
def test_every_option_leads_to_one_of_today(method):
    today = METHODS[method].options_type.model_fields
    assert set(OPTIONS[method].values()) <= today.keys()
    assert not OPTIONS[method].keys() & today.keys()


@pytest.mark.parametrize("method", TENSORS)
def test_every_tensor_leads_to_one_of_today(method):
    method_type = METHODS[method]
    preprocessing = Preprocessing(image_size=32, channels=1)
    today = method_type(method_type.options_type(), preprocessing, torch.Generator()).state_dict()
    for earlier, now in TENSORS[method].items():
        assert any(name == now or name.startswith(f"{now}.") for name in today), now
        assert not any(name == earlier or name.startswith(f"{earlier}.") for name in today), earlier


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_file_of_format_version_1_has_all_tensors_and_options_of_today(path):
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["format_version"] == "1"
        description = json.loads(file.metadata()["model"])
        weights = {
            name.removeprefix("weights/"): file.get_tensor(name)
            for name in file.keys()  # noqa: SIM118 - not a mapping
            if name.startswith("weights/")
        }
    method_type = find_method(description["method"])
    options, weights = upgraded(description["method"], description["options"], weights)
    today = method_type.options_type.model_fields
    assert options.keys() <= today.keys()
    assert today.keys() - options.keys() <= OFF_BY_DEFAULT
    method = method_type(
        method_type.options_type(**options), Preprocessing(**description["preprocessing"]), torch.Generator()
    )
    assert weights.keys() == method.state_dict().keys()


def test_names_that_did_not_change_stay():
    weight = torch.zeros(1)
    options, tensors = upgraded("ganomaly", {"nz": 3}, {"encoder.layers.0.weight": weight})
    assert options == {"nz": 3}
    assert tensors == {"encoder.layers.0.weight": weight}


def test_a_module_is_renamed_with_all_its_tensors_and_no_other_whose_name_only_starts_alike():
    names = {name: torch.zeros(1) for name in ("discriminator.spot.weight", "discriminator.spotless.weight")}
    assert set(upgraded("patch-ganomaly", {}, names)[1]) == {
        "discriminator.segmentation_head.weight",
        "discriminator.spotless.weight",
    }


def test_exported_graphs_are_upgraded_without_pytorch():
    code = "import sys, ganomaly.prediction.earlier_formats; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_earlier_names_in_a_file_of_today_are_refused(tmp_path):
    """Otherwise a table would hide a mistake in a file of today."""
    metadata, tensors = read_model_file(MODELS[0].parent / "small.safetensors")
    metadata["format_version"] = "2"
    mixed = write_model_file(tmp_path / "mixed.safetensors", metadata, tensors)
    with pytest.raises(ModelFileError, match="options are not valid: telling weight"):
        load_model(mixed)
    description = json.loads(metadata["model"])
    description["options"] = upgraded(description["method"], description["options"], {})[0]
    metadata["model"] = json.dumps(description)
    with pytest.raises(ModelFileError, match="do not fit"):
        load_model(write_model_file(tmp_path / "mixed.safetensors", metadata, tensors))
