"""Archives of CIFAR and MNIST in their publishers' layout."""

from pathlib import Path

from kd_jax.data.importing.contents import Contents, Options


def is_one(path: Path) -> bool:
    """Return whether a file or folder is such an archive, packed or not."""
    return False


def read(path: Path, options: Options) -> Contents:
    """Return what it holds."""
    raise NotImplementedError
