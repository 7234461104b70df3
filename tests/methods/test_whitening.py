"""Whitened features have unit covariance, or less along axes that hardly vary."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from ganomaly.methods.whitening import PrincipalAxes, Whitening


def features(n: int = 2000, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    mixing = torch.randn(5, 5, generator=random)
    return (torch.randn(n, 5, generator=random) @ mixing + 3).to(dtype)


def test_whitened_features_have_mean_0_and_unit_covariance():
    whitening = Whitening(5, ridge=1e-6)
    whitening.fit(features())
    whitened = whitening(features())
    torch.testing.assert_close(whitened.mean(dim=0), torch.zeros(5), rtol=0, atol=1e-4)
    torch.testing.assert_close(torch.cov(whitened.t()), torch.eye(5), rtol=0, atol=1e-2)


def test_the_axes_with_the_largest_variance_are_taken():
    whitening = Whitening(5, 2, ridge=1e-6)
    whitening.fit(features())
    expected = PCA(2, whiten=True).fit_transform(features().double().numpy())[:, ::-1]
    np.testing.assert_allclose(whitening(features()).abs().numpy(), np.abs(expected), rtol=1e-2, atol=1e-2)


def test_the_ridge_bounds_axes_without_variance():
    flat = features()
    flat[:, 0] = 1
    whitening = Whitening(5, ridge=0.01)
    whitening.fit(flat)
    flat[:, 0] += 1e-4
    assert whitening(flat).abs().max() < 10


@pytest.mark.parametrize("n", [1, 2])
def test_few_features_give_a_finite_map(n):
    whitening = Whitening(5, ridge=0.01)
    whitening.fit(features(n))
    assert torch.isfinite(whitening(features(4))).all()


def test_principal_axes_without_whitening_keep_angles():
    axes = PrincipalAxes(5)
    axes.fit(features())
    products = features(20) @ features(20).t()
    torch.testing.assert_close(axes(features(20)) @ axes(features(20)).t(), products, rtol=1e-4, atol=1e-3)


def test_features_stay_in_their_precision():
    assert Whitening(5, ridge=0.1)(features(dtype=torch.float64)).dtype == torch.float64
