"""Compare a RoBERTa that `kd-jax export --format=hf` writes with what transformers makes of the folder: logits and tokens.

Needs torch and transformers beside kd_jax, so no test runs it. In a checkout:

    PYTHONPATH=. python tests/golden/exported_roberta.py

It trains a small study of made-up texts for a few steps, in float32 and in float64, exports its student, and prints the largest
differences of logits. What came out last is in BUILD.md.
"""

import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import jax
import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[1]))
import conftest  # of the tests: it writes prepared sets without TensorFlow

from kd_jax.config import Study
from kd_jax.data import tokens
from kd_jax.extract.logits import make_logits
from kd_jax.models import Variables
from kd_jax.studies import arithmetic, export, prepare
from kd_jax.studies.train import train_prepared
from kd_jax.workdir import checkpoints, records

STUDY = Study.from_flags(
    dataset="texts/1.0.0",
    teacher="roberta_1x64",
    student=("roberta_2x128",),
    epochs=2,
    batch_size=16,
    learning_rate=3e-3,
    optimizer="adamw",
    vocabulary=340,
    max_length=24,
    checkpoints=4,
)


def main() -> None:
    """Train, export, compare."""
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        made = conftest.sentences.__wrapped__()(140)
        conftest.write_texts.__wrapped__()(data_dir, {"train": made[:100], "test": made[100:]})
        for precision in ("float32", "float64"):
            study, workdir = STUDY.replaced(precision=precision), Path(folder) / precision
            arithmetic.set_precision(study.networks)
            devices = jax.devices()[:1]
            train_prepared(prepare.prepare("exported", study, workdir, data_dir, devices), devices)
            out = export.export(workdir, "student-seed0", "hf")
            compare(workdir, out, precision, made[100:])


def compare(workdir: Path, out: Path, precision: str, texts: list) -> None:
    """Print the largest difference of logits on the test split, and whether texts become the same tokens."""
    opened = prepare.open_study(workdir)
    dataset, run = opened.dataset, opened.plan.run("student", 0)
    folder = records.run_folder(workdir, run.name)
    variables = Variables(**checkpoints.load_variables(folder, run.length.total_steps))
    ours = make_logits(run.arm.model, dataset, precision)(variables, dataset.test.x)
    model = AutoModelForSequenceClassification.from_pretrained(out, dtype=getattr(torch, precision)).eval()
    ids = torch.tensor(dataset.test.x.astype(np.int64))
    with torch.no_grad():
        theirs = model(ids, attention_mask=(ids != 1).long()).logits.numpy()
    print(f"{precision}: largest difference {np.abs(ours - theirs).max():.2e} of logits up to {np.abs(ours).max():.3f}")
    tokenizer = AutoTokenizer.from_pretrained(out)
    strings = [text for text, _ in texts] + ["a film that is not very good " * 9]
    own = tokens.load(workdir / "tokenizer.json", "")
    expected, _ = tokens.encode(own, [(text,) for text in strings], opened.study.data.max_length)
    found = tokenizer(strings, truncation=True)["input_ids"]
    pairs = list(pairwise(strings))
    expected_pairs, _ = tokens.encode(own, pairs, opened.study.data.max_length)
    found_pairs = tokenizer([a for a, _ in pairs], [b for _, b in pairs], truncation=True)["input_ids"]
    print(f"tokens of {len(strings)} texts equal: {found == expected}; of pairs: {found_pairs == expected_pairs}")


if __name__ == "__main__":
    main()
