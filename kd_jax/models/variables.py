"""What a network takes and what it returns, as pytrees."""

from typing import Any, NamedTuple

import jax


class Variables(NamedTuple):
    """The state of a network at one moment.

    Attributes:
        params: the trainable arrays, in nested dicts by layer.
        model_state: the running statistics of normalisation layers, in nested dicts; an empty dict where a network has none.
    """

    params: dict[str, Any]
    model_state: dict[str, Any]


class Outputs(NamedTuple):
    """What a network returns for a batch.

    Attributes:
        logits: [batch, classes], in the dtype of the parameters.
        features: what the network computed on the way, {name: [batch, ...]}, in the same dtype; empty for a network that names
            none. Every network of `kd_jax.models` has `penultimate` [batch, width], the input of its last layer. Beside it,
            an MLP has its hidden layers, `hidden1`, `hidden2`, ... [batch, width]; convolutional networks have the output
            of each stage, `stage1`, ... [batch, height, width, channels]; and RoBERTa has the first token after each layer,
            `layer1`, ... [batch, width], whose shape does not depend on the length of the texts.
            Inside `jax.jit`, features that nothing reads cost neither time nor memory.
        state: the running statistics of normalisation layers after this batch; see `Variables.model_state`.
    """

    logits: jax.Array
    features: dict[str, jax.Array]
    state: Any
