"""From run folders to arrays: the only room that runs networks over checkpoints."""
