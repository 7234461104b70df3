"""Models on the Hugging Face hub, or in a folder that looks like a repository there.

A repository holds `model.safetensors`, `config.json` for other programs, and a model card. Of these, this package
reads `model.safetensors` alone, which is data and has a checksum; nothing is fetched unless a repository is named.
"""

from ganomaly.hub.card import model_card
from ganomaly.hub.repository import is_local, pretrained_file, pull_model, push_model

__all__ = ["is_local", "model_card", "pretrained_file", "pull_model", "push_model"]
