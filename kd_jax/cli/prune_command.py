"""`kd-jax prune`: checkpoints that are no longer needed."""

from pathlib import Path

import tyro


def prune(workdir: tyro.conf.Positional[Path], keep: str = "analysed", dry_run: bool = False):
    """Delete checkpoints that finished runs no longer need; they count as finished all the same.

    Args:
        workdir: Work folder of a study, or of a sweep.
        keep: Which checkpoints to keep: analysed, all that an analysis reads, so that only the states from which a stopped run
            goes on are deleted; every=N, each N-th of those; last, the last of each run and those at which teachers teach.
        dry_run: Say what would be deleted, and delete nothing.
    """
    from kd_jax.studies.prune import prune as run

    found = run(workdir, keep, dry_run)
    verb = "would delete" if dry_run else "deleted"
    print(
        f"{verb} {found.steps} checkpoints of trajectories and {found.states} states to resume from: {found.files} files,"
        f" {found.bytes / 1e6:.1f} MB"
    )
    if found.unfinished:
        print(f"left alone, for they are not finished: {', '.join(found.unfinished)}")
    fewest, most = found.curves
    if found.lost:
        print(
            "what can no longer be computed again: weights along eigendirections and functions along kernels, which need step 0 and"
            " two more; kd-jax analyze keeps an earlier analysis that has them as analysis-before-pruning"
        )
    elif most:
        many = f"{fewest} to {most}" if fewest != most else f"{fewest}"
        print(f"kd-jax analyze can still answer every question; curves along training go through {many} checkpoints")
