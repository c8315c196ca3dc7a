"""Losses per example, and the objectives that are made of them.

A loss takes logits [batch, classes] and returns a number per example [batch], in the dtype of the logits. Losses on labels are in
`LABEL_LOSSES` and `SOFT_LOSSES`. The losses that draw a student to its teacher are in `DISTILLATION`, by the name that
`--distillation` takes; they see all that the two networks return, so they may compare features too. To add one, write a function
and enter it in `config.losses.LOSSES`, which also has their settings.

An objective is what a training step minimises on average over a batch: a function `objective(outputs, batch, step) -> [batch]` of
what the network returns, of the batch, and of the number of steps already taken.

Modules: `labels`, `logits`, `features` and `contrast` have the losses; `table` their names, `objectives` what is made of them;
`batches` the whole of a batch that is split over devices.
"""

from kd_jax.losses.contrast import crd as crd
from kd_jax.losses.features import at as at
from kd_jax.losses.features import fitnets as fitnets
from kd_jax.losses.features import rkd as rkd
from kd_jax.losses.labels import LABEL_LOSSES as LABEL_LOSSES
from kd_jax.losses.labels import SOFT_LOSSES as SOFT_LOSSES
from kd_jax.losses.labels import correct as correct
from kd_jax.losses.labels import one_hot as one_hot
from kd_jax.losses.labels import smoothed as smoothed
from kd_jax.losses.labels import squared_error as squared_error
from kd_jax.losses.labels import squared_error_to as squared_error_to
from kd_jax.losses.logits import dist as dist
from kd_jax.losses.logits import dkd as dkd
from kd_jax.losses.logits import kd as kd
from kd_jax.losses.logits import mse as mse
from kd_jax.losses.logits import standardised as standardised
from kd_jax.losses.objectives import distillation_objective as distillation_objective
from kd_jax.losses.objectives import kd_weight as kd_weight
from kd_jax.losses.objectives import label_objective as label_objective
from kd_jax.losses.table import DISTILLATION as DISTILLATION
from kd_jax.losses.table import check as check
from kd_jax.losses.table import compares_features as compares_features
from kd_jax.losses.table import draws as draws
from kd_jax.losses.table import initialiser as initialiser
from kd_jax.losses.table import relates as relates
from kd_jax.losses.types import Batch as Batch
from kd_jax.losses.types import Learned as Learned
from kd_jax.losses.types import Loss as Loss
from kd_jax.losses.types import NetworkOutputs as NetworkOutputs
from kd_jax.losses.types import Objective as Objective
