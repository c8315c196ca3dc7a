"""From run folders to arrays: the only room that runs networks over checkpoints. One device suffices, whatever hardware trained."""
