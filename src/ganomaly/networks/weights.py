"""Initial weights."""

from torch import Generator, Tensor, nn

STANDARD_DEVIATION = 0.02


def initialise_weights(module: nn.Module, generator: Generator) -> None:
    """Draw convolutions from N(0, 0.02) and batch-norm gains from N(1, 0.02); batch-norm shifts are 0.

    Source: DCGAN (Radford et al. 2016, section 4), and the authors of GANomaly.

    Parameters
    ----------
    module : nn.Module
        Changed in place, with all submodules; batch-norm statistics are reset.
    generator : Generator
        A generator on the processor; the weights follow from its state alone, on every device.
    """
    for submodule in module.modules():
        if isinstance(submodule, nn.Conv2d | nn.ConvTranspose2d):
            _fill_normal(submodule.weight, 0.0, generator)
        elif isinstance(submodule, nn.BatchNorm2d):
            _fill_normal(submodule.weight, 1.0, generator)
            nn.init.zeros_(submodule.bias)
            submodule.reset_running_stats()


def draw_he_normal(weight: Tensor, slope: float, generator: Generator) -> None:
    """Draw a weight in place from He's normal distribution, for a leaky ReLU of this slope after it.

    Source: He et al., *Delving Deep into Rectifiers*, ICCV 2015.
    """
    if not weight.is_meta:  # see `_fill_normal`
        nn.init.kaiming_normal_(weight, slope, generator=generator)


def _fill_normal(weight: Tensor, mean: float, generator: Generator) -> None:
    if weight.is_meta:  # a model that is being loaded has shapes first, then the weights of its file
        return
    values = weight.detach().new_empty(weight.shape, device="cpu")
    values.normal_(mean, STANDARD_DEVIATION, generator=generator)
    weight.data.copy_(values)
