"""What students take from their teacher, and the switch of their loss in mid-training."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from kd_jax.config.allowed import SHARE, Allowed, need
from kd_jax.config.losses import LossSettings, loss_names
from kd_jax.errors import BadInput

TEACHER_STEP = Allowed(lambda step: step >= 0, "0 for the last step, or a step of the teacher's training")
EARLY_EPOCH = Allowed(lambda epoch: epoch >= 0, "0 for none, or an epoch of the teacher's training")


@dataclass(frozen=True)
class Distillation(LossSettings):
    """What students take from their teacher, and what the teacher's own training does otherwise.

    A setting that one loss alone reads has a name that begins with that of the loss; see `settings_of`.
    """

    weight: Annotated[float, SHARE] = 1.0
    """Weight of the distillation loss; the loss on the labels has the rest [0 to 1]."""
    switch: str = ""
    """Change of the students' loss in mid-training: onehot:kd@50 after 50 epochs, at once; kd:onehot@100,ramp=1000 over the 1000
    steps that follow. `kd` is the mix that `weight` sets [empty: none]."""
    teacher_with: tuple[str, ...] = ()
    """Where the teacher's training differs from the students', such as epochs=20 weight_decay=0.01; takes the fields of the group
    "training" [none]."""
    teacher_step: Annotated[int, TEACHER_STEP] = 0
    """Step of the teacher's training at which it teaches, to stop it early [0: its last]."""
    early_epoch: Annotated[int, EARLY_EPOCH] = 0
    """Epoch of the teacher's training after which it also teaches, as arm `student_early`, a further student of each network: what
    depends on how well the teacher fits its labels is then seen side by side [0: none; nor is there one where the teacher's
    training is no longer]."""
    control: Literal["auto", "free"] = "auto"
    """What shows how much a network that knows nothing of the teacher seems to exaggerate it: one like the teacher, from another
    seed. Where no one-hot run is like it, `auto` trains one, arm `teacher_twin`, and `free` takes the teacher of the next seed."""
    teacher_from: str = ""
    """Work folder of a finished study whose teachers teach here too, seed by seed, or one for all seeds where it has one; or a run
    in it, such as runs/old/runs/student-seed0, which teaches all seeds. It is copied here, and not trained [empty: none]."""
    teacher_table: Literal["auto", "on", "off"] = "auto"
    """Ask a frozen teacher once for its logits of every view of every training image, of which crops and flips have 162, and look
    them up afterwards: students then cost no more than one-hot training. The same within rounding. auto: on an accelerator, where
    the students take more epochs than there are views and the table fits; not for losses on features, mixed or streamed images."""
    teacher_logits: str = ""
    """A .npz with what a teacher, from any framework, answers to the training examples: logits or log_probabilities [examples,
    classes], or for the top k indices and log_probabilities or probabilities [examples, k]; with ids [examples], or for all of the
    training split in its order; and the same for test_logits, test_ids, ... It needs views that are not random [empty: none]."""

    def __post_init__(self):
        super().__post_init__()
        both = bool(self.teacher_from and self.teacher_logits)
        need(self, "teacher_logits", not both, "none beside --teacher_from, for one teacher")
        given = "teacher_from" if self.teacher_from else "teacher_logits" if self.teacher_logits else ""
        need(
            self, "teacher_with", not (self.teacher_with and given), f"none beside --{given}, which is not trained here"
        )
        need(self, "early_epoch", not (self.early_epoch and given), f"0 beside --{given}, which is not trained here")
        need(self, "early_epoch", not (self.early_epoch and self.teacher_step), "0 beside --teacher_step")
        both = bool(self.teacher_step and self.teacher_logits)
        need(self, "teacher_step", not both, "0 beside --teacher_logits, which are of one network")
        both = bool(self.losses_on_features and self.teacher_logits)
        need(self, "distillation", not both, "a loss on logits beside --teacher_logits, which have no features")
        parse_switch(self.switch)
        trains_head = self.losses_on_features != loss_names(self.distillation) or self.weight < 1 or bool(self.switch)
        below = f"less than 1 beside --distillation={self.distillation}, which leaves the student's last layer as it is; pass 0.5"
        need(self, "weight", trains_head, below)

    @property
    def is_teacher_given(self) -> bool:
        """Whether the teacher exists already, so that none is trained."""
        return bool(self.teacher_from or self.teacher_logits)


class Switch(NamedTuple):
    """A change of loss in mid-training.

    Attributes:
        to_kd: True from one-hot labels to distillation; False the other way.
        epoch: epochs completed when it begins.
        ramp: steps that it takes; the last of them is the first with the new loss alone, so 1 is a hard switch.
    """

    to_kd: bool
    epoch: float
    ramp: int


def parse_switch(text: str) -> Switch | None:
    """Return the `Switch` that `--switch` describes, or None where it is empty.

    >>> parse_switch("onehot:kd@50,ramp=1000")
    Switch(to_kd=True, epoch=50.0, ramp=1000)

    Raises:
        BadInput: when it describes none.
    """
    if not text:
        return None
    match = re.fullmatch(r"(onehot:kd|kd:onehot)@([0-9]+(?:\.[0-9]+)?)(?:,ramp=([1-9][0-9]*))?", text)
    if not match:
        raise BadInput(
            f"--switch={text}: expected onehot:kd@EPOCH or kd:onehot@EPOCH, and possibly ,ramp=STEPS of at least 1;"
            " pass one such as --switch=onehot:kd@50,ramp=1000"
        )
    direction, epoch, ramp = match.groups()
    return Switch(direction == "onehot:kd", float(epoch), int(ramp or 1))
