"""The work folder. Alone in knowing where things lie and how a checkpoint is laid out.

    WORKDIR/
      tokenizer.json           of a study of texts: what its tokens were made with
      study.json               what was asked for, versions, platform, data fingerprint, hashes of the teachers
      runs/ARM-seedK/          a run
        metrics.jsonl          a line per epoch
        trajectory/STEP/       orbax, append-only: parameters and normalisation statistics, all that analysis reads
        resume/STEP/           orbax, the newest two: the full training state
      analysis/                what `analyse.analyze` derives from the above; may be deleted

A checkpoint is a dict of one-dimensional arrays, one per dtype ("float32": [n]): orbax's cost is per leaf, not per byte. Its custom
metadata holds `leaves`, a list of [path, shape, dtype] in the order in which they lie in those arrays, and `digest`, a sha256 over
leaves and bytes, since neither orbax nor TensorStore notices a flipped bit.
"""
