#!/usr/bin/env bash
#SBATCH --job-name=kd_jax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
# One study on several nodes, all devices of all of them on each batch: sbatch [SBATCH OPTION...] slurm_hosts.sh COMMAND...
#
#     sbatch --nodes=4 --gpus-per-node=8 --time=12:00:00 slurm_hosts.sh kd-jax run imagenet_kd --workdir=/shared/runs/imagenet
#
# Who the processes are and where they meet, JAX reads from SLURM's variables. A node that fails ends the others, and the job
# queues again; so it does when it is told to stop.
set -euo pipefail

srun --kill-on-bad-exit=1 "$@" --distributed --coordinator_timeout "${COORDINATOR_TIMEOUT:-600}" &
steps=$!
trap 'scancel --signal=TERM "$SLURM_JOB_ID.0" 2>/dev/null || true' TERM INT
status=0
wait "$steps" || status=$?
while kill -0 "$steps" 2>/dev/null; do # a signal ends `wait`, and not the steps
    status=0
    wait "$steps" || status=$?
done
if ((status == 75)); then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
