#!/usr/bin/env bash
#SBATCH --job-name=kd_jax
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
# A job of slurm.sh, or one of its own: slurm_run.sh RUNS COMMAND...
#
#     sbatch --nodes=4 --gpus-per-node=8 --time=12:00:00 slurm_run.sh '' kd-jax run imagenet_kd --workdir=/shared/runs/imagenet
#
# In an array, the run in the line of RUNS that the job's number says; where RUNS is empty, COMMAND itself. A job of several nodes
# or tasks starts a process for each, which train together (--distributed); who they are and where they meet, JAX reads from
# SLURM's variables, and one that fails ends the others. SLURM sends SIGTERM two minutes before the time is over, and when it
# pre-empts; the program saves and ends with 75, and the job queues again.
set -euo pipefail

if (($# < 2)); then
    echo "usage: sbatch [SBATCH OPTION...] slurm_run.sh RUNS COMMAND..." >&2
    exit 2
fi
runs=$1
shift
if [[ -n $runs ]]; then
    set -- "$@" --only "$(sed -n "${SLURM_ARRAY_TASK_ID}p" "$runs")"
fi
step=''
if ((${SLURM_NNODES:-1} > 1 || ${SLURM_NTASKS:-1} > 1)); then
    set -- srun --kill-on-bad-exit=1 "$@" --distributed --coordinator_timeout "${COORDINATOR_TIMEOUT:-600}"
    step=$SLURM_JOB_ID.0
fi
echo "$(date -u +%FT%TZ) $(hostname): $*"
program='' told=''
pass_on() {
    told+=x
    if [[ -n $program && -n $step ]]; then
        scancel --signal=TERM "$step" # srun itself would end its processes, and not pass the signal on
    elif [[ -n $program ]]; then
        kill -TERM "$program"
    fi
}
trap 'pass_on 2>/dev/null || true' TERM INT
"$@" &
program=$!
if [[ -n $told ]]; then # before it was started
    pass_on
fi
status=127
while :; do
    heard=$told now=0
    wait "$program" || now=$?
    ((now == 127)) || status=$now # it was known before
    [[ $told != "$heard" ]] || break # a signal ends `wait`, and not the program
done
if ((status == 75)); then
    # By the number in its array: the last run of an array has the array's own, which means all of them.
    scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
fi
exit "$status"
