"""A network as a program in StableHLO, from stored examples to logits, which JAX runs where nothing of kd_jax is installed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from kd_jax.errors import BadInput

FILE = "model.jax_export"
PLATFORMS = ("cpu", "cuda", "tpu")


def check() -> None:
    """Check that programs can be written.

    Raises:
        BadInput: without the package flatbuffers, in which JAX writes them.
    """
    try:
        import flatbuffers  # noqa: F401
    except ImportError:
        raise BadInput("--format: expected the package flatbuffers; pip install 'kd_jax[export]'") from None


def write(
    folder: Path, logits: Callable[[Any], Any], shape: Sequence[int], dtype: Any, longest: int | None = None
) -> tuple[str, ...]:
    """Write `model.jax_export`, and return the platforms that it runs on.

    Weights are constants of the program, and products of matrices have full precision on every platform. The number of examples is
    free; so is, for texts, the number of tokens up to the longest. A network that asks for the number of examples, as by `len(x)`,
    is written as the same of each example alone.

    Args:
        folder: where to; it exists.
        logits: `logits(x)`, a function that JAX can trace, of examples as they are stored.
        shape: the shape of an example.
        dtype: its dtype.
        longest: for texts, the most tokens that the network can read; `shape` is not looked at then.

    Raises:
        BadInput: for a network of one's own that needs to know the number of examples.
    """
    if longest is None:
        dimensions = export.symbolic_shape(", ".join(["b", *map(str, shape)]))
    else:
        # A start and an end are in every text.
        dimensions = export.symbolic_shape("b, t", constraints=["t >= 2", f"t <= {longest}"])

    def exported(function):
        @jax.jit
        def program(x):
            with jax.default_matmul_precision("highest"):
                return function(x)

        return export.export(program, platforms=PLATFORMS)(jax.ShapeDtypeStruct(dimensions, jnp.dtype(dtype)))

    def one_by_one(x):
        return jax.vmap(lambda example: logits(example[None])[0])(x)

    try:
        made = exported(logits)
    except TypeError as error:  # whatever a network of one's own does with a size that is not known, such as len(x)
        said = " ".join(str(error).split("\n")[0].split())
        try:
            made = exported(one_by_one) if _are_apart(logits, one_by_one, shape, dtype) else None
        except TypeError:
            made = None
        if made is None:
            raise BadInput(
                f"--format=stablehlo: expected a network that takes any number of examples, found: {said}; use x.shape[0] instead"
                " of len(x), and no number that is made of it but in shapes"
            ) from None
    (folder / FILE).write_bytes(bytes(made.serialize()))
    return made.platforms


def _are_apart(logits, one_by_one, shape, dtype) -> bool:
    """Whether a network says of examples together what it says of each alone; tried on four, by their largest difference."""
    x = np.random.default_rng(0).integers(2, 200, (4, *shape)).astype(dtype)
    together, alone = np.asarray(logits(x)), np.asarray(one_by_one(x))
    return bool(np.abs(together - alone).max() <= 1e-3 * max(np.abs(together).max(), 1e-3))


def snippet(shape: Sequence[int], dtype: str) -> str:
    """Return Python code that runs the program, in the folder of the file; it needs jax and flatbuffers.

    Args:
        shape, dtype: of a batch, such as [1, 32, 32, 3] and `uint8`.
    """
    return f"""import jax
import numpy as np
from jax import export

with open("{FILE}", "rb") as file:
    program = export.deserialize(bytearray(file.read()))
x = np.zeros({list(shape)}, np.{dtype})  # your examples, as the card says
logits = program.call(x)
print(logits.shape, jax.nn.softmax(logits).max(axis=1))"""
