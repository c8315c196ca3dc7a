"""`kd-jax audit`: judge any student by its answers and its teacher's."""

import shlex
import sys
from pathlib import Path
from typing import Literal

from kd_jax.cli.guard import hushed
from kd_jax.errors import BadInput


def audit(
    teacher: tuple[str, ...],
    student: tuple[str, ...],
    labels: str = "",
    control: tuple[str, ...] = (),
    names: str = "",
    examples: str = "",
    out: Path = Path("audit"),
    split: Literal["test", "train"] = "test",
    probabilities: bool = False,
    log_probabilities: bool = False,
    classes: int = 0,
    tokens: bool = False,
    sequences: str = "",
    mask: str = "",
    shift_labels: bool = False,
    quiet: bool = False,
):
    """Say what a student does differently from its teacher, from the logits of both: models of any framework.

    Args:
        teacher: Logits [examples, classes] of the teacher: .npy, .npz, .csv or .parquet; one file, or one for each seed.
        student: Logits of the student on the same examples in the same order; one file for each seed.
        labels: Labels [examples]: .npy, .npz, or one per line; without them nothing is said of accuracy and calibration.
        control: Logits of a network that never met the teacher, best one trained as the teacher was, from another seed: what no
            exaggeration looks like.
        names: Text file with the name of a class per line; of tokens, the model's tokenizer.json.
        examples: What to show of the examples: .npy of uint8 images, a text file with one per line, or a folder of images; of
            tokens, .npy of the input ids.
        out: Folder for the report; made if absent.
        split: Whether the models were trained on these examples, which decides what is advised.
        probabilities: The files hold probabilities.
        log_probabilities: The files hold log-probabilities.
        classes: Number of classes, where a .npz holds the most probable alone (keys indices and probabilities or
            log_probabilities) [0: one more than the largest index].
        tokens: The rows are next-token distributions of language models; arrays may be [sequences, length, vocabulary], and labels
            [sequences, length], where -100 leaves a position out.
        sequences: With --tokens, the sequence that each row is from, integers [tokens]: intervals draw whole sequences, as they do
            where arrays have three dimensions.
        mask: With --tokens, whether each position counts, such as an attention mask of 0 and 1.
        shift_labels: With --tokens, the labels are the inputs, as Hugging Face's models take them: the token at a position is what
            the row before it predicts.
        quiet: Print the answer and errors alone: no progress, no tables.
    """
    from kd_jax.cli import terminal
    from kd_jax.studies.audit import audit as run
    from kd_jax.studies.progress import Progress

    if probabilities and log_probabilities:
        raise BadInput("--probabilities --log_probabilities: expected one of the two")
    kind = "probabilities" if probabilities else "log_probabilities" if log_probabilities else None
    with hushed(quiet):
        found = run(
            list(teacher),
            list(student),
            labels or None,
            control=list(control),
            kind=kind,
            classes=classes or None,
            names=names or None,
            examples=examples or None,
            split=split,
            tokens=tokens,
            sequences=sequences or None,
            mask=mask or None,
            shift_labels=shift_labels,
            out=out,
            progress=Progress,
            command=f"kd-jax {shlex.join(sys.argv[1:])}",
        )
    terminal.audit(out, found, quiet)
