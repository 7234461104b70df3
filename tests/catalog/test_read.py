"""Reading a catalogue."""

import pytest

from ganomaly.catalog import read_catalog
from ganomaly.errors import UsageError

WHOLE = """
options: {preset: paper, epochs: 2, method_options: {nz: 8, ngf: 4}}
products:
  nut:
    data: nuts
  screw:
    options: {seed: 3, method_options: {nz: 16}}
    cameras:
      left: {data: /screws/left}
      right: {data: "s3://bucket/right", options: {epochs: 5}}
"""


def written(tmp_path, text):
    path = tmp_path / "catalog.yaml"
    path.write_text(text)
    return path


def test_options_of_an_entry_go_over_those_of_its_product_and_of_all(tmp_path):
    nut, left, right = read_catalog(written(tmp_path, WHOLE))
    assert [entry.name for entry in (nut, left, right)] == ["nut", "screw-left", "screw-right"]
    assert [entry.options.epochs for entry in (nut, left, right)] == [2, 2, 5]
    assert [entry.options.seed for entry in (nut, left, right)] == [0, 3, 3]
    assert dict(left.options.method_options) == {"nz": 16, "ngf": 4}


def test_paths_are_relative_to_the_catalogue(tmp_path):
    data = [entry.data for entry in read_catalog(written(tmp_path, WHOLE))]
    assert data == [str(tmp_path / "nuts"), "/screws/left", "s3://bucket/right"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("products:\n  nut:\n    data: x\n    options:\n      epochs: many", "line 5.*epochs"),
        ("products:\n  nut: {data: x}\n  bolt: {data: y, camras: 1}", "line 3.*camras"),
        (
            "products:\n  nut: {data: x}\n  bolt: {data: y}\n  nut: {data: z}",
            "line 4: nut is already in line 2",
        ),
        ("products:\n  nut: {data: x}\n  no: {data: y}", "line 3: write the name no in quotes"),
        ("products:\n  nut: {data: x, options: {preset: papr}}", "line 2: unknown preset 'papr'"),
        (
            "products:\n  nut: {data: x, options: {preset: paper, method_options: {nx: 1}}}",
            "line 2.*no option nx",
        ),
        ("products:\n  nut: {options: {epochs: 1}}", "line 2: product nut has neither data nor cameras"),
        ("products:\n  nut: {data: x, cameras: {a: {data: y}}}", "has both data and cameras"),
        ("products:\n  a: {cameras: {b-c: {data: x}}}\n  a-b: {cameras: {c: {data: y}}}", "named a-b-c"),
        ("products:\n  ../nut: {data: x}", "line 2.*nut"),
        ("products: {}", "products"),
        ("products: &all\n  nut: *all", "contains itself"),
        ("products: [1", "line 1"),
        ("products: !!python/object/apply:os.getpid []", "could not determine a constructor"),
        ("", "is empty"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text, sentence, tmp_path):
    with pytest.raises(UsageError, match=sentence) as caught:
        read_catalog(written(tmp_path, text))
    assert str(tmp_path / "catalog.yaml") in str(caught.value)
