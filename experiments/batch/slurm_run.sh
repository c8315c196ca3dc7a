#!/usr/bin/env bash
#SBATCH --job-name=kd_jax
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
# A job of slurm.sh: slurm_run.sh RUNS COMMAND...
#
# In an array, the run in the line of RUNS that the job's number says; where RUNS is empty, COMMAND itself, which analyses. SLURM
# sends SIGTERM two minutes before the time is over, and when it pre-empts; the program saves and ends with 75, and the job
# queues again.
set -euo pipefail

runs=$1
shift
if [[ -n $runs ]]; then
    set -- "$@" --only "$(sed -n "${SLURM_ARRAY_TASK_ID}p" "$runs")"
fi
echo "$(date -u +%FT%TZ) $(hostname): $*"
"$@" &
program=$!
trap 'kill -TERM "$program" 2>/dev/null || true' TERM INT
status=0
wait "$program" || status=$?
while kill -0 "$program" 2>/dev/null; do # a signal ends `wait`, and not the program
    status=0
    wait "$program" || status=$?
done
if ((status == 75)); then
    # By the number in its array: the last run of an array has the array's own, which means all of them.
    scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
fi
exit "$status"
