"""Write roberta_forward.json and roberta_1x16/: transformers' logits in float64, which tests expect of ours.

- `roberta_3x128` on weights that `tests/test_roberta.py` draws, so they are not stored;
- `roberta_1x16`, a folder of weights as transformers saves them, for `tests/test_pretrained.py`;
- the number of parameters of RoBERTa's published sizes.

Needs torch and transformers beside kd_jax and pytest, so no test runs it. With PYTHONPATH holding both the repository and tests/:

    PYTHONPATH=.:tests python tests/golden/roberta_forward.py

It prints the largest differences between the two and takes a few seconds.
"""

import json

import jax
import numpy as np
import torch
import transformers
from test_roberta import CLASSES, GOLDEN, NAME, POSITIONS, VOCABULARY, made, texts
from transformers import RobertaConfig, RobertaForSequenceClassification

from kd_jax import models
from kd_jax.models import pretrained

SAVED = GOLDEN.parent / "roberta_1x16"


def configuration(depth, width, classes, vocabulary, positions, **more):
    """RoBERTa's published settings: transformers' own defaults are BERT's in part."""
    return RobertaConfig(
        num_hidden_layers=depth,
        hidden_size=width,
        num_attention_heads=max(width // 64, 1),
        intermediate_size=4 * width,
        num_labels=classes,
        vocab_size=vocabulary,
        max_position_embeddings=positions + 2,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        **more,
    )


def state_dict(params):
    """Our arrays under transformers' names and in its order of axes."""
    state = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        name, transposed = pretrained.their_name(path)
        prefix = "" if name.startswith("classifier.") else pretrained.PREFIX
        state[prefix + name] = torch.tensor(np.ascontiguousarray(leaf.T if transposed else leaf))
    return state


def theirs(network, tokens):
    tokens = torch.tensor(tokens.astype(np.int64))
    with torch.no_grad():
        logits = network.double().eval()(tokens, attention_mask=(tokens != 1).long()).logits
    return logits.numpy()


def compare(name, logits, ours):
    print(f"{name}: logits up to {np.abs(logits).max():.3g}, largest difference {np.abs(ours - logits).max():.2g}")


def main():
    x, logits = texts(), {}

    network = RobertaForSequenceClassification(configuration(3, 128, CLASSES, VOCABULARY, POSITIONS))
    for precision in ("float32", "float64"):
        jax.config.update("jax_enable_x64", precision == "float64")
        model, variables = made(NAME, precision)
        network.double().load_state_dict(state_dict(variables.params))
        # float32 weights are rounded; theirs are then computed on the rounded ones
        logits[NAME] = theirs(network, x)
        compare(f"{NAME}, {precision}", logits[NAME], np.asarray(model.apply(variables, x).logits))

    torch.manual_seed(0)
    config = configuration(1, 16, CLASSES, VOCABULARY, POSITIONS, initializer_range=0.5)
    saved = RobertaForSequenceClassification(config).float()
    with torch.no_grad():  # what starts at zero or one too
        for parameter in saved.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    saved.save_pretrained(SAVED)
    model = models.build(SAVED.name, CLASSES, "float64", vocabulary=VOCABULARY, positions=POSITIONS)
    variables, report = pretrained.load(SAVED, SAVED.name, model.init(jax.random.key(0), x))
    logits[SAVED.name] = theirs(saved, x)
    compare(f"{SAVED.name} ({report})", logits[SAVED.name], np.asarray(model.apply(variables, x).logits))

    with torch.device("meta"):
        published = {"roberta_base": (12, 768), "roberta_24x1024": (24, 1024)}
        parameters = {
            name: RobertaForSequenceClassification(configuration(*shape, 2, 50265, 512)).num_parameters()
            for name, shape in published.items()
        }
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    logits = {name: values.tolist() for name, values in logits.items()}
    record = {"versions": versions, "parameters": parameters, "tokens": x.tolist(), "logits": logits}
    GOLDEN.write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
