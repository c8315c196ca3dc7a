"""The versions of what can change a number."""

import platform
from importlib.metadata import version

from kd_jax import __version__

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "tensorflow-datasets",
    "pillow",
    "numpy",
    "scipy",
)


def versions() -> dict[str, str]:
    """Return {package: version} of Python and of the packages that can change a number."""
    own = {"python": platform.python_version(), "kd_jax": __version__}
    return own | {package: version(package) for package in PACKAGES}
