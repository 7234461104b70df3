"""Push a model to a repository, and pull it."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

from ganomaly.errors import OutputError, UsageError, package_needed
from ganomaly.files import make_folder, written_whole
from ganomaly.hub.card import model_card
from ganomaly.prediction import describe_model
from ganomaly.prediction.model_file import check_model_path, load_model

MODEL_FILE, CONFIG_FILE, CARD_FILE = "model.safetensors", "config.json", "README.md"


def is_local(repository: str | Path) -> bool:
    """Whether a folder is meant: a `Path`, an existing folder, or a text that begins as a path does."""
    text = os.fspath(repository)
    is_path = text.startswith((".", "/", "~")) or text.count("/") > 1  # a repository is ORG/NAME
    return isinstance(repository, Path) or is_path or Path(text).is_dir()


def push_model(
    path: str | Path,
    repository: str | Path,
    *,
    figures: Mapping[str, Any] | None = None,
    licence: str | None = None,
    private: bool = False,
) -> str:
    """Write a model, its description and its card to a repository of the hub, or to a folder.

    Parameters
    ----------
    path : str or Path
        The model file; checked before anything is sent.
    repository : str or Path
        `ORG/NAME`, which is created if it is missing, or a folder.
    figures, licence
        For the card, as for `model_card`.
    private : bool
        Whether a repository that is created is private.

    Returns
    -------
    str
        Where it is: the address of the commit, or the folder.

    Raises
    ------
    UsageError
        If there is no such model, `huggingface_hub` is not installed, or `published/part` may be a repository or a
        folder, because the folder `published` is here.
    ModelFileError
        If it is no model, or damaged.
    OutputError
        If the hub refuses it or cannot be reached, or the folder cannot be written.
    """
    path = Path(path)
    _check_is_clear(repository)
    model = load_model(path)  # an exported graph is not pushed: whoever pulls it could not check it
    description = {key: value for key, value in describe_model(path).items() if key != "file"}
    texts = {
        CONFIG_FILE: json.dumps({"library_name": "ganomaly", **description}, indent=2) + "\n",
        CARD_FILE: model_card(model, str(repository), figures, licence),
    }
    if is_local(repository):
        return _write_folder(path, Path(repository).expanduser(), texts)
    return _commit(path, str(repository), texts, private=private)


def pull_model(repository: str | Path, out: str | Path, *, revision: str | None = None) -> None:
    """Fetch the model of a repository into a file.

    Parameters
    ----------
    repository, revision
        As for `pretrained_file`.
    out : str or Path
        The model file to write, `.safetensors`; it replaces a model only.

    Raises
    ------
    UsageError, ModelFileError
        As `pretrained_file`, and if what it holds is no model, or was changed.
    OutputError
        If it cannot be written.
    """
    check_model_path(out)
    source = pretrained_file(repository, revision=revision)
    load_model(source)
    with written_whole(out) as part:
        shutil.copyfile(source, part)


def pretrained_file(repository: str | Path, *, revision: str | None = None) -> Path:
    """The model file of a repository, fetched into the hub's local cache unless it is there.

    Parameters
    ----------
    repository : str or Path
        `ORG/NAME`, or a folder, which takes no revision.
    revision : str, optional
        A branch, tag or commit; a commit is the one that cannot change.

    Raises
    ------
    UsageError
        If there is no such repository, revision or folder, it has no model, or the hub cannot be reached.
    """
    if Path(repository).expanduser().is_file():
        raise UsageError(f"{repository} is a file; load it as it is, or name a repository or a folder")
    if is_local(repository):
        if revision is not None:
            raise UsageError(f"{repository} is a folder, which has no revisions; leave the revision out")
        file = Path(repository).expanduser() / MODEL_FILE
        if not file.is_file():
            raise UsageError(f"there is no {MODEL_FILE} in the folder {repository}; name another one")
        return file
    with package_needed(f"the model {repository} of the hub", "hub"):
        from huggingface_hub import hf_hub_download
    try:
        # the user names the repository and, if it must not change, the revision; only data is read, no code
        return Path(
            hf_hub_download(
                str(repository), MODEL_FILE, revision=revision, endpoint=_endpoint(), library_name="ganomaly"
            )
        )
    except Exception as error:  # of its own kinds, and of the HTTP client below
        at = "" if revision is None else f" at revision {revision}"
        raise UsageError(
            f"the model {repository}{at} cannot be had from the hub ({_first_line(error)}); check the name, the "
            "connection and the token, or name a local folder"
        ) from error


def _check_is_clear(repository: str | Path) -> None:
    """Raise `UsageError` if a repository's name may be meant as a new folder: nothing is sent out by mistake."""
    text = os.fspath(repository)
    organisation, _, name = text.partition("/")
    if not is_local(repository) and name and Path(organisation).is_dir():
        raise UsageError(
            f"{text} may be a repository of the hub, or a new folder in the folder {organisation} that is here; "
            f"write ./{text} for the folder, or start elsewhere for the hub"
        )


def _write_folder(path: Path, folder: Path, texts: Mapping[str, str]) -> str:
    make_folder(folder)
    check_model_path(folder / MODEL_FILE)
    with written_whole(folder / MODEL_FILE) as part:
        shutil.copyfile(path, part)
    for name, text in texts.items():
        with written_whole(folder / name) as part:
            part.write_text(text, encoding="utf-8")
    return str(folder)


def _commit(path: Path, repository: str, texts: Mapping[str, str], *, private: bool) -> str:
    """One commit of all files, so that no model is there without its card."""
    with package_needed("pushing a model to the hub", "hub"):
        from huggingface_hub import CommitOperationAdd, HfApi
    try:
        api = HfApi(endpoint=_endpoint(), library_name="ganomaly")
        api.create_repo(repository, private=private or None, exist_ok=True)
        files = [
            CommitOperationAdd(MODEL_FILE, str(path)),
            *(CommitOperationAdd(name, text.encode()) for name, text in texts.items()),
        ]
        commit = api.create_commit(repository, files, commit_message="Upload a model of ganomaly")
    except Exception as error:  # likewise
        raise OutputError(
            f"the hub does not take the model as {repository} ({_first_line(error)}); check the name, the "
            "connection, and the token in HF_TOKEN"
        ) from error
    return str(commit.commit_url)


def _endpoint() -> str | None:
    """The hub's address where the environment names another than the public one."""
    return os.environ.get("HF_ENDPOINT") or None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return shorten(lines[0], 300, placeholder=" …").rstrip(".") if lines else type(error).__name__
