"""What analysis looks at."""

from dataclasses import dataclass
from typing import Annotated

from kd_jax.config.allowed import Allowed, check, once, zero_or

TWO_EACH = Allowed(lambda pairs: all(0 <= a != b >= 0 for a, b in pairs), "two different directions each, 0 the top")


@dataclass(frozen=True)
class Look:
    """What analysis looks at. None of it changes training, so it may be asked for after a study is finished."""

    layers: Annotated[tuple[str, ...], once("layer")] = ()
    """Layers whose weights are followed along the eigendirections of their inputs [none: the first of each network]."""
    pairs: Annotated[tuple[tuple[int, int], ...], TWO_EACH] = ()
    """Pairs of eigendirections to compare beside those fixed by rule, such as 0 8 0 32; 0 is the top. Equal progress is along
    the first of a pair."""
    kernel_examples: Annotated[int, zero_or(2, "none")] = 0
    """Size of the random part of the training set on which the functions that networks compute are followed along the
    eigenvectors of their tangent kernel [examples; 0: none]."""
    trajectory_examples: Annotated[int, zero_or(2, "none")] = 1000
    """How many random training examples are followed along training, to see when each is learnt, forgotten and exaggerated
    [examples; 0: none]."""

    def __post_init__(self):
        check(self)
