#!/usr/bin/env bash
# One study on several hosts of a Kubernetes cluster that has JobSet, all devices of all of them on each batch.
#
#     IMAGE=... CLAIM=... jobset.sh NAME HOSTS COMMAND...
#     IMAGE=registry/kd_jax:1 CLAIM=work GPUS=8 jobset.sh imagenet 4 kd-jax run imagenet_kd --workdir=/volume/runs/imagenet
#
# IMAGE, CLAIM and GPUS are as for kubernetes.sh. A host that fails or is taken away restarts all of them, which go on from
# what was saved.
set -euo pipefail

if (($# < 3)) || [[ -z ${IMAGE:-} || -z ${CLAIM:-} ]]; then
    echo "usage: IMAGE=... CLAIM=... jobset.sh NAME HOSTS COMMAND..." >&2
    exit 2
fi
name=$1
hosts=$2
shift 2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
words=$(python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@" | sed 's/[&\|]/\\&/g') # as sed takes it
sed -e "s|{{NAME}}|$name|g; s|{{HOSTS}}|$hosts|g; s|{{IMAGE}}|$IMAGE|g; s|{{CLAIM}}|$CLAIM|g; s|{{GPUS}}|${GPUS:-0}|g" \
    -e "s|{{WORDS}}|$words|g" "$here/jobset.yaml" | kubectl apply -f -
