"""Solar cells as the package elpv-dataset installs them."""

import numpy as np
import pytest

from ganomaly.benchmark import BenchmarkDataset
from ganomaly.benchmark.elpv import find_elpv, split_elpv
from ganomaly.errors import DataError, UsageError


def test_normal_cells_are_split_and_cells_in_doubt_are_left_out():
    train, test = split_elpv(find_elpv(), seed=0)
    is_defective = np.array([record.is_anomalous for record in test.records])
    assert (len(train), (~is_defective).sum(), is_defective.sum()) == (1206, 302, 715)
    assert not {record.path for record in train.records} & {record.path for record in test.records}
    assert {record.kind for record in test.records} == {"mono", "poly"}
    assert train.read(0).shape == (300, 300, 1)


def test_the_seed_draws_the_split():
    paths = [[record.path for record in split_elpv(find_elpv(), seed)[0].records] for seed in (0, 0, 1)]
    assert paths[0] == paths[1] != paths[2]


def test_the_benchmark_knows_it(tmp_path):
    dataset = BenchmarkDataset("elpv", tmp_path)
    assert dataset.class_groups(None) == [("overall",)]
    task = dataset.task(("overall",), seed=3)
    assert (len(task.train), len(task.test)) == (1206, 1017)
    assert task.labels["overall"].sum() == 715


def test_a_missing_package_and_damaged_labels_are_said(tmp_path, monkeypatch):
    (tmp_path / "labels.csv").write_text("images/cell0001.png 1.0\n")
    with pytest.raises(DataError, match="is not the list of labels of elpv-dataset"):
        split_elpv(tmp_path, seed=0)
    monkeypatch.setattr("ganomaly.benchmark.elpv.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install elpv-dataset"):
        find_elpv()
