"""The work folder: where things lie in it and how a checkpoint is laid out. No other room knows either.

    WORKDIR/
      tokenizer.json           of a study of texts: how its tokens were made
      teacher_logits.npz       with --teacher_logits: the answers that the study uses, as `data.teacher_logits` describes them
      study.json               the configuration, versions, platform, data fingerprint, hashes of the teachers
      runs/ARM-seedK/          one training run
        metrics.jsonl          a line per epoch
        trajectory/STEP/       orbax, append-only: parameters and normalisation statistics, which is all that analysis reads; with
                               --ema also their moving average, under `average`
        resume/STEP/           orbax, the newest two: the full training state
        damaged/               checkpoints that could not be read, moved out of the way
      analysis/                what `studies.analyse` derives from the above; it may be deleted

`study.json` has these keys: `schema` (2; absent in folders written before there was one), `study` (its name), `config` (every
setting under its flag's name), `arms` (each kind of run, with its steps; see `plan.Arm`), `steps_per_epoch`, `total_steps`,
`checkpoint_steps` (of the students), `descent_times`, `teacher_time`, `data` (name, folder, fingerprint, sizes), `parameters` (of
each network), `arithmetic` (JAX's options that decide numbers, see `studies.arithmetic.OPTIONS`, and whether it has 64 bits),
`keys` ({run: its `plan.Run.key`}, of the runs that are trained here; every checkpoint carries that of its run),
`init_from`, `networks` (of one's own, where there are any: {name: file, sha256, kind, target, folder}, see
`studies.networks.describe`), `teacher_hash`, `teacher_tables` (of teachers whose answers were looked up: {name: `views` of an
example, `sha256`}), `platform` and `versions` (of the program that began the study), `history` (of every
program that trained a part of it, in order: `platform`, `versions`, `command`, `started`, `ended`, `only`, the run, where it
trained just one, and `revision` where it ran from a git checkout), `peak_memory`, where seeds were given up because a run of
theirs diverged `skipped`, {seed: `run` and `why`}, and of a study that was pruned `pruned`: `keep`, what was asked for last,
and `steps`, {run: the steps of its trajectory that were taken away, rising}. `seal` is a sha256 over all other keys, by which a
change by another
hand is noticed.

A study whose teacher existed already has one of two more. `teacher_from` has `folder`, `study`, `network`, `data` and
`fingerprint` of the study that the teacher is from, `mean` and `std` with which its images were standardised, whether its loss
was `switched`, how it was trained (`training`, null where that was elsewhere, on other data or from a teacher), and `runs`: {run
here: `run` there, `step` at which it teaches, `sha256` of its variables, its `init`, `order` and `seed`, and its length}.
`teacher_logits` has `file` (its name), `sha256` over the answers that are used, `splits` that it has, `kind`, `top_k` (0: all
classes) and `dtype`.

A checkpoint is a dict of one-dimensional arrays, one per dtype ("float32": [n]), because orbax's cost is per leaf and not per byte;
each is a zarr array of one chunk, which is not compressed (earlier versions compressed it, or wrote OCDBT databases).
Its custom metadata holds `leaves`, a list of [path, shape, dtype] in the order in which they lie in those arrays, `digest`, a
sha256 over leaves and bytes, because neither orbax nor TensorStore notices a flipped bit, and its `step` and the `key` of its run,
because folders can be renamed and copied.

`records` has the JSON files, metrics and the locks, and needs no JAX; `checkpoints` alone knows orbax; `remote` alone knows of
object stores, and keeps a copy of a work folder that lies in one.

Two programs do not write one thing: `.lock` of the work folder is held by one program that trains or analyses all of it, or shared
by programs that train one run each, `.lock` of a run by the program that trains it, and `.records.lock` while `study.json` is read,
changed and written.
"""
