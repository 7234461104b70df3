"""Where the weights begin."""

from torch import Generator, Tensor, nn

STANDARD_DEVIATION = 0.02


def initialise_weights(module: nn.Module, generator: Generator) -> None:
    """Draw convolutions from N(0, 0.02) and batch-norm gains from N(1, 0.02); batch-norm shifts are 0.

    Source: DCGAN (Radford et al. 2016, section 4), taken over by the authors of GANomaly.

    Parameters
    ----------
    module : nn.Module
        Changed in place, all its submodules too; batch-norm statistics start anew.
    generator : Generator
        A generator on the processor; the weights depend on its state alone, whatever the device.
    """
    for submodule in module.modules():
        if isinstance(submodule, nn.Conv2d | nn.ConvTranspose2d):
            _fill_normal(submodule.weight, 0.0, generator)
        elif isinstance(submodule, nn.BatchNorm2d):
            _fill_normal(submodule.weight, 1.0, generator)
            nn.init.zeros_(submodule.bias)
            submodule.reset_running_stats()


def _fill_normal(weight: Tensor, mean: float, generator: Generator) -> None:
    drawn = weight.detach().new_empty(weight.shape, device="cpu")
    drawn.normal_(mean, STANDARD_DEVIATION, generator=generator)
    weight.data.copy_(drawn)
