"""The configuration of a study, in sections. Every section is a frozen dataclass that refuses a bad value at once, by name.

A `Study` is everything that decides the numbers that come out. Where it runs (platform, folders) is not part of it; see
`kd_jax.cli.session`. The docstrings below the fields are the text of `--help`, and the notes in their types say which values they
take.

On the command line and in `study.json` the fields of all sections stand side by side, under their own names, which are unique:
`Study.from_flags`, `Study.replaced` and `to_json` use these flat names.

Modules: `data`, `networks`, `training`, `distillation` and `look` are the sections, `study` puts them together; `losses` is the
table of distillation losses; `allowed`, which values a field takes; `study_json` reads what was written;
`packages` knows what can change a number.
"""

from kd_jax.config.allowed import shown as shown
from kd_jax.config.data import FOLDER as FOLDER
from kd_jax.config.data import Data as Data
from kd_jax.config.data import is_folder as is_folder
from kd_jax.config.distillation import Distillation as Distillation
from kd_jax.config.distillation import Switch as Switch
from kd_jax.config.distillation import parse_switch as parse_switch
from kd_jax.config.look import Look as Look
from kd_jax.config.losses import LOSSES as LOSSES
from kd_jax.config.losses import LossSettings as LossSettings
from kd_jax.config.losses import loss_names as loss_names
from kd_jax.config.networks import Networks as Networks
from kd_jax.config.packages import PACKAGES as PACKAGES
from kd_jax.config.packages import versions as versions
from kd_jax.config.study import FLAGS as FLAGS
from kd_jax.config.study import MOST_SEEDS as MOST_SEEDS
from kd_jax.config.study import SECTION_OF as SECTION_OF
from kd_jax.config.study import SECTIONS as SECTIONS
from kd_jax.config.study import Study as Study
from kd_jax.config.study import to_json as to_json
from kd_jax.config.study_json import SCHEMA as SCHEMA
from kd_jax.config.study_json import from_json as from_json
from kd_jax.config.training import Training as Training
from kd_jax.config.training import parse_changes as parse_changes
from kd_jax.errors import BadInput as BadInput
