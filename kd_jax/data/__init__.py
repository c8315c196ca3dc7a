"""Real data: embedded digits, Tiny-ImageNet, any TFDS set of classified images or texts; as NumPy arrays, or streamed from disk."""

from kd_jax.data import digits, loader, streamed, text, tfds, tiny_imagenet, tokens
from kd_jax.data.arrays import Dataset, Split, assemble

__all__ = ["Dataset", "Split", "default_data_dir", "load", "place"]

default_data_dir = tfds.default_data_dir


def place(dataset, data_dir=None, tiny_imagenet_dir=None):
    """Return the folder in which a set is looked for, as `load` takes it.

    Args:
        dataset: its name.
        data_dir: folder of prepared TFDS sets, by default `default_data_dir()`.
        tiny_imagenet_dir: folder of Tiny-ImageNet, by default `tiny_imagenet.default_dir(data_dir)`.
    """
    data_dir = data_dir or default_data_dir()
    return (tiny_imagenet_dir or tiny_imagenet.default_dir(data_dir)) if dataset == tiny_imagenet.NAME else data_dir


def load(study, data_dir, given=None, workers=0):
    """Return the `Dataset` that a study names, reduced and with its label noise.

    Args:
        study: a `kd_jax.config.Study`.
        data_dir: folder of prepared TFDS sets; for `tiny_imagenet` its own, or the one around it; not looked at for `digits`.
        given: a `tokens.Given`, what is fixed about the tokens of texts; None for a new study without pre-trained weights.
        workers: processes that decode a streamed set; 0: this one.

    Raises:
        BadInput: when there is no such set, it cannot be prepared, or it has neither images nor texts with classes.
    """
    loader.check_workers(workers)
    source = _source(study.dataset, data_dir)
    if isinstance(source, text.Texts):
        return tokens.assemble(source, study, given)
    if isinstance(source, streamed.Encoded):
        return streamed.assemble(source, study, workers)
    return assemble(source, study)


def _source(name, data_dir):
    if name == "digits":
        return digits.load()
    return tiny_imagenet.load(data_dir) if name == tiny_imagenet.NAME else tfds.load(name, data_dir)
