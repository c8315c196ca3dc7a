#!/usr/bin/env bash
# Submit a study to SLURM: an array job of the runs that can start, one of those that wait for them, and the analysis.
#
#     slurm.sh [SBATCH OPTION...] -- COMMAND...
#     slurm.sh --partition=gpu --gpus=1 --time=04:00:00 -- kd-jax run digits_kd --workdir=/shared/runs/digits
#
# The options go to all three; with --nodes=4 four nodes train each run together. AT_ONCE limits how many runs an array has in the
# queue at a time [64]. The names of the runs and what they print lie in BATCH_DIR [kd_jax-batch]. Submitted again it takes what
# is left.
set -euo pipefail

options=()
while (($#)) && [[ $1 != -- ]]; do
    options+=("$1")
    shift
done
if (($# < 2)); then
    echo "usage: slurm.sh [SBATCH OPTION...] -- COMMAND..." >&2
    exit 2
fi
shift
command=("$@")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$(realpath -m "${BATCH_DIR:-kd_jax-batch}")
mkdir -p "$folder"
runs=$folder/runs-$(date +%Y%m%d-%H%M%S)-$$
"${command[@]}" --list >"$runs"
ready=$("${command[@]}" --list --ready)
all=$(wc -l <"$runs")
first=$(grep -c . <<<"$ready" || true) # a list begins with the runs that can start

submit() { # DEPENDENCY SBATCH_OPTION... SCRIPT ARGUMENT...
    local after=()
    [[ -n $1 ]] && after=("--dependency=$1" --kill-on-invalid-dep=yes)
    shift
    sbatch --parsable "${after[@]}" "${options[@]}" "$@"
}

array() { # DEPENDENCY FIRST LAST: the job's number
    local number
    number=$(submit "$1" --array="$2-$3%${AT_ONCE:-64}" --output="$folder/%x-%A_%a.log" "$here/slurm_run.sh" "$runs" "${command[@]}")
    echo "${number%%;*}" # a cluster's name may follow
}

jobs=''
if ((first)); then
    number=$(array '' 1 "$first")
    echo "runs that can start: job $number, $first of them"
    jobs=:$number
fi
if ((all > first)); then
    # Students of a teacher that failed end at once and say so; the others go on.
    number=$(array "${jobs:+afterany$jobs}" "$((first + 1))" "$all")
    echo "runs that wait for a teacher: job $number, $((all - first)) of them"
    jobs+=:$number
fi
number=$(submit "${jobs:+afterok$jobs}" --nodes=1 --ntasks=1 --output="$folder/%x-%j.log" "$here/slurm_run.sh" '' "${command[@]}")
echo "analysis: job ${number%%;*}; what all print is in $folder"
