"""The discriminator's features of images, and their embedding in two dimensions.

Source: Akcay, Atapour-Abarghouei, Breckon, *GANomaly*, ACCV 2018, which shows t-SNE (van der Maaten & Hinton,
2008) of the features f(·) of the last convolutional layer of the discriminator.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no types
from torch import Tensor
from torch.nn import functional

from ganomaly.methods import Method

POOLED_SIDE = (
    4  # feature maps are pooled to at most 4×4 positions, which is all that the DCGAN pyramids leave
)
COMPONENTS = 50
PERPLEXITY = 30
MIN_IMAGES = 8


def pooled_features(method: Method, x: Tensor) -> Tensor | None:
    """The discriminator's features f(x), averaged over the positions of a small grid.

    Parameters
    ----------
    method : Method
        In eval mode.
    x : Tensor
        `float[N, C, H, W]` in [−1, 1].

    Returns
    -------
    Tensor or None
        `float[N, K]`; K does not depend on the size of the images. None without a discriminator.
    """
    features = method.discriminator_features(x)
    if features is None:
        return None
    height, width = (min(POOLED_SIDE, side) for side in features.shape[2:])
    return functional.adaptive_avg_pool2d(features, (height, width)).flatten(1)


def principal_components(features: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The first principal components of features `float32[N, K]`, as `float32[N, ≤ 50]`.

    None where no embedding can be made: too few images, numbers that are not finite, or the same features for all
    images. A network that broke or collapsed costs its figure, not its row.
    """
    if len(features) < MIN_IMAGES or not np.isfinite(features).all() or not np.ptp(features, axis=0).any():
        return None
    n_components = min(COMPONENTS, *features.shape)
    components: NDArray[np.float32] = PCA(n_components, random_state=0).fit_transform(features)
    return components


def tsne_positions(components: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embed components `float32[N, K]` by t-SNE with a fixed seed, as `float32[N, 2]`."""
    perplexity = min(PERPLEXITY, (len(components) - 1) / 3)
    # t-SNE's threads wait for each other at every step: on a busy machine they take ten times as long as one alone
    with threadpool_limits(1):
        positions: NDArray[np.float32] = TSNE(perplexity=perplexity, random_state=0).fit_transform(components)
    return positions
