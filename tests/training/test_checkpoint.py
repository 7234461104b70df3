"""Where the state of a training is saved."""

from pathlib import Path

from ganomaly.remote import RemoteFile
from ganomaly.training.checkpoint import checkpoint_of


def test_the_checkpoint_of_a_model_is_beside_it(tmp_path):
    assert checkpoint_of(tmp_path / "m.safetensors") == tmp_path / "m.safetensors.checkpoint"


def test_models_of_one_name_in_a_store_do_not_share_a_checkpoint():
    left, right = (checkpoint_of(RemoteFile(f"s3://f/{line}/m.safetensors")) for line in ("left", "right"))
    assert left != right
    assert checkpoint_of(RemoteFile("s3://f/left/m.safetensors")) == left  # where a resumed run finds it
    for path in (left, right):
        assert path.parent == Path()
        assert path.name.startswith("m.safetensors")
        assert path.suffix == ".checkpoint"
