#!/usr/bin/env bash
# Every run of a study as a pod: an indexed Job of the runs that can start, one of those that waited, and one that analyses.
#
#     IMAGE=... CLAIM=... kubernetes.sh NAME COMMAND...
#     IMAGE=registry/kd_jax:1 CLAIM=work kubernetes.sh digits kd-jax run digits_kd --workdir=/volume/runs/digits
#
# IMAGE has kd_jax and python. CLAIM is a PersistentVolumeClaim that many pods may write (ReadWriteMany), mounted at /volume; what
# the pods need besides (GPUs, data, node selectors) goes into kubernetes.yaml. GPUS [0] is how many each run has, AT_ONCE [16] how
# many run at a time. LIST, if it is set, is a command like COMMAND that this machine can run, where it sees folder and data
# under other names.
set -euo pipefail

if (($# < 2)) || [[ -z ${IMAGE:-} || -z ${CLAIM:-} ]]; then
    echo "usage: IMAGE=... CLAIM=... kubernetes.sh NAME COMMAND..." >&2
    exit 2
fi
name=$1
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
read -r -a list <<<"${LIST:-}"
((${#list[@]})) || list=("$@")
words=$(python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@" | sed 's/[&\|]/\\&/g') # as sed takes it

start() { # JOB COMPLETIONS
    sed -e "s|{{JOB}}|$1|g; s|{{COMPLETIONS}}|$2|g; s|{{AT_ONCE}}|${AT_ONCE:-16}|g; s|{{IMAGE}}|$IMAGE|g; s|{{CLAIM}}|$CLAIM|g" \
        -e "s|{{GPUS}}|${GPUS:-0}|g; s|{{WORDS}}|$words|g" "$here/kubernetes.yaml" | kubectl apply -f -
}

finished() { # JOB: wait until it is complete, or has failed
    until kubectl wait "job/$1" --for=condition=complete --timeout=20s >/dev/null 2>&1; do
        if kubectl wait "job/$1" --for=condition=failed --timeout=1s >/dev/null 2>&1; then
            echo "kubernetes.sh: job $1 failed; kubectl logs job/$1 says why" >&2
            return 1
        fi
    done
}

for wave in first second; do
    names=$("${list[@]}" --list --ready)
    if [[ -n $names ]]; then
        job=$name-$wave
        kubectl create configmap "$job" --from-literal=runs="$names" --dry-run=client -o yaml | kubectl apply -f -
        kubectl delete job "$job" --ignore-not-found # of an earlier time
        start "$job" "$(wc -l <<<"$names")"
        finished "$job" || true # the runs whose teachers are finished go on
    fi
done
names=$("${list[@]}" --list)
if [[ -n $names ]]; then
    echo "kubernetes.sh: not finished: ${names//$'\n'/ }; give the same command again" >&2
    exit 1
fi
job=$name-analysis
kubectl create configmap "$job" --from-literal=runs= --dry-run=client -o yaml | kubectl apply -f -
kubectl delete job "$job" --ignore-not-found
start "$job" 1
finished "$job"
