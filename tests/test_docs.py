"""The guides: their links lead somewhere, and the commands and files that they name exist."""

import json
import re
import shlex
from pathlib import Path

import pytest
import typer

from ganomaly.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for glob in ("*.md", "docs/*.md", "docs/notebooks/*.ipynb", "inference/*.md")
    for path in ROOT.glob(glob)
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^ganomaly .*$|`(ganomaly [a-z][^`]*)`", re.MULTILINE)
FILE = re.compile(r"\b(?:benchmarks|examples|tests|src)/[\w/.-]+\.\w+")
TO_BE_WRITTEN = {"src/ganomaly/methods/autoencoder.py"}  # by who adds a method

each_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


def text_of(page: Path) -> str:
    """The Markdown of a guide, or of the cells of a notebook."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def anchor(heading: str) -> str:
    """What GitHub and the site make of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@each_page
def test_links_lead_to_files_and_headings_that_exist(page):
    for target in LINK.findall(CODE_BLOCK.sub("", text_of(page))):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{target} does not exist"
        if heading:
            text = CODE_BLOCK.sub("", text_of(file))
            headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
            assert heading in map(anchor, headings), f"{target} has no such heading"


@each_page
def test_commands_and_their_options_exist(page):
    verbs = typer.main.get_command(app).commands
    text = text_of(page).replace("\\\n", " ")
    for match in COMMAND.finditer(text):
        words = shlex.split(match[1] or match[0], comments=True)
        verb = words[1] if len(words) > 1 else ""
        if verb.startswith("-"):
            continue  # ganomaly --help
        assert verb in verbs, f"{match[0]}: no such command"
        options = {
            name for parameter in verbs[verb].params for name in (*parameter.opts, *parameter.secondary_opts)
        }
        unknown = {word for word in words if word.startswith("--") and word != "--help"} - options
        assert not unknown, f"{match[0]}: no such option"


@each_page
def test_files_that_are_named_exist(page):
    for name in set(FILE.findall(text_of(page))) - TO_BE_WRITTEN:
        assert (ROOT / name).exists(), f"{name} does not exist"
