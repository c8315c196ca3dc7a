"""What a network is at one moment."""

from typing import NamedTuple


class Variables(NamedTuple):
    """What a network is at one moment.

    Attributes:
        params: trainable arrays.
        model_state: running statistics of normalisation layers; an empty dict where a network has none.
    """

    params: dict
    model_state: dict
