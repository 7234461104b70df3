"""A catalogue in YAML: read without running anything, checked, and with the line of what is wrong."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from ganomaly.catalog.entry import CatalogEntry
from ganomaly.config import MAX_OPTION_TEXT, FitOptions, Options, first_error
from ganomaly.data.ignored_region import read_ignored_region
from ganomaly.errors import UsageError, package_needed
from ganomaly.training.plan import check_options

MAX_CATALOG = 10_000_000  # bytes
_Key = tuple[str | int, ...]


_Name = Annotated[str, Field(max_length=100, pattern=r"^\w[\w.-]*$")]
_Value = bool | int | float | Annotated[str, Field(max_length=MAX_OPTION_TEXT)]


class EntryOptions(Options):
    """Options as `ganomaly fit` has them; what is left out is that of the level above."""

    preset: str | None = None
    epochs: int | None = None
    image_size: int | None = None
    channels: int | None = None
    seed: int | None = None
    device: str | None = None
    precision: str | None = None
    false_alarm_rate: float | None = None
    backbone: str | None = None
    ignore: str | None = None
    """Mask of the region of all images that is ignored."""
    method_options: Mapping[str, _Value] = Field(default_factory=dict)
    """Options of the method, as `--option` of `ganomaly fit`."""

    def over(self, above: "EntryOptions") -> "EntryOptions":
        """These options, and those of the level above where these say nothing."""
        both = above.model_dump(exclude_none=True) | self.model_dump(exclude_none=True)
        both["method_options"] = {**above.method_options, **self.method_options}
        return EntryOptions(**both)

    def fit_options(self, folder: Path) -> FitOptions:
        """What `fit_model` takes; paths are relative to a folder. Raises `UsageError`."""
        values = self.model_dump(exclude_none=True)
        backbone, ignore = values.pop("backbone", None), values.pop("ignore", None)
        if backbone is not None:
            values["method_options"] = {**values["method_options"], "backbone": backbone}
        if ignore is not None:
            values["ignored"] = read_ignored_region(folder / ignore)
        options = FitOptions.checked(**values)
        check_options(options)
        return options


class Camera(Options):
    """A view of a product."""

    data: str
    options: EntryOptions = EntryOptions()


class Product(Options):
    """A product: either its images, or its cameras."""

    data: str | None = None
    cameras: Annotated[Mapping[_Name, Camera], Field(min_length=1)] | None = None
    options: EntryOptions = EntryOptions()


class Catalog(Options):
    """The whole file."""

    options: EntryOptions = EntryOptions()
    products: Annotated[Mapping[_Name, Product], Field(min_length=1)]


def read_catalog(path: Path) -> list[CatalogEntry]:
    """Read a catalogue.

    Parameters
    ----------
    path : Path
        A YAML file; paths in it are relative to its folder.

    Returns
    -------
    list of CatalogEntry
        One for each model, in the order of the file.

    Raises
    ------
    UsageError
        If it cannot be read, or something in it is wrong; it says in which line.
    """
    content, lines = _parsed(path)
    try:
        catalog = Catalog.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{_where(path, lines, error.errors()[0]['loc'])}: {first_error(error)}") from error
    entries: list[CatalogEntry] = []
    taken: dict[str, str] = {}
    for product_name, product in catalog.products.items():
        key: _Key = ("products", product_name)
        of_product = product.options.over(catalog.options)
        if (product.data is None) == (product.cameras is None):
            problem = "has neither data nor cameras" if product.data is None else "has both data and cameras"
            raise UsageError(
                f"{_where(path, lines, key)}: product {product_name} {problem}; give one of them"
            )
        cameras: dict[str | None, Camera] = {}
        if product.data is not None:
            cameras[None] = Camera(data=product.data)
        cameras.update(product.cameras or {})
        for camera_name, camera in cameras.items():
            camera_key = key if camera_name is None else (*key, "cameras", camera_name)
            where = _where(path, lines, camera_key)
            try:
                options = camera.options.over(of_product).fit_options(path.parent)
            except UsageError as error:
                raise UsageError(f"{where}: {error}") from error
            entry = CatalogEntry(product_name, camera_name, _located(camera.data, path.parent), options)
            other = taken.setdefault(entry.name.casefold(), where)
            if other != where:
                raise UsageError(
                    f"{where}: its model would be named {entry.name}, as that of {other}; rename one"
                )
            entries.append(entry)
    return entries


def _located(data: str, folder: Path) -> str:
    return data if "://" in data else str(folder / data)


def _where(path: Path, lines: Mapping[_Key, int], key: _Key) -> str:
    """File and line of a key; of the innermost one that is in the file."""
    while key and key not in lines:
        key = key[:-1]
    return f"{path}, line {lines.get(key, 1)}"


def _parsed(path: Path) -> tuple[Any, dict[_Key, int]]:
    """What the file holds, and the line of each key."""
    with package_needed("a catalogue", "fit-all"):
        import yaml
    try:
        if path.stat().st_size > MAX_CATALOG:
            raise UsageError(f"{path} is larger than {MAX_CATALOG / 1e6:.0f} MB, and no catalogue")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text in UTF-8") from error
    lines: dict[_Key, int] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            raise UsageError(f"{path} is empty; docs/many-models.md shows a catalogue")
        _note_lines(path, node, (), lines, set())
        return yaml.safe_load(text), lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        problem = getattr(error, "problem", None) or "it is no YAML"
        raise UsageError(f"{path}{line}: {problem}") from error
    except RecursionError as error:
        raise UsageError(f"{path} is nested too deep") from error


def _note_lines(path: Path, node: Any, key: _Key, lines: dict[_Key, int], above: set[int]) -> None:
    """Note the line of each key; a key that comes twice is an error, where YAML would take the last."""
    import yaml

    lines.setdefault(key, node.start_mark.line + 1)
    if not isinstance(node, yaml.MappingNode):
        return
    if id(node) in above:
        raise UsageError(f"{path}, line {node.start_mark.line + 1}: it contains itself")
    for name_node, value_node in node.value:
        inner = (*key, str(name_node.value))
        line = name_node.start_mark.line + 1
        if not name_node.tag.endswith(":str"):  # YAML takes no and on for truth values, 8020 for a number
            raise UsageError(f"{path}, line {line}: write the name {name_node.value} in quotes")
        if inner in lines:
            raise UsageError(f"{path}, line {line}: {name_node.value} is already in line {lines[inner]}")
        lines[inner] = line
        _note_lines(path, value_node, inner, lines, above | {id(node)})
