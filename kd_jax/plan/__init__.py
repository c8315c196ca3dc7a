"""What a study comes to: its arms, its runs, how each is trained, how long, with which checkpoints. Built once from a `Study`.

`arms` says which kinds of runs a study has, and which of them stands for what; `given` what is known of a teacher that exists
already; `runs` puts them together.
"""

from kd_jax.plan.arms import EARLY as EARLY
from kd_jax.plan.arms import NEXT as NEXT
from kd_jax.plan.arms import NULLS as NULLS
from kd_jax.plan.arms import TEACHER as TEACHER
from kd_jax.plan.arms import TWIN as TWIN
from kd_jax.plan.arms import Arm as Arm
from kd_jax.plan.arms import Design as Design
from kd_jax.plan.arms import arms as arms
from kd_jax.plan.arms import design as design
from kd_jax.plan.arms import of_record as of_record
from kd_jax.plan.arms import training_of as training_of
from kd_jax.plan.given import LOGITS as LOGITS
from kd_jax.plan.given import GivenTeacher as GivenTeacher
from kd_jax.plan.given import Length as Length
from kd_jax.plan.given import Source as Source
from kd_jax.plan.given import lengths_of as lengths_of
from kd_jax.plan.given import seeds_of as seeds_of
from kd_jax.plan.runs import Plan as Plan
from kd_jax.plan.runs import Run as Run
from kd_jax.plan.runs import Variant as Variant
from kd_jax.plan.runs import checkpoint_steps as checkpoint_steps
from kd_jax.plan.runs import make_plan as make_plan
from kd_jax.plan.runs import run_key as run_key
from kd_jax.plan.runs import run_name as run_name
