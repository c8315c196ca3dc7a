#!/usr/bin/env bash
# A study on a TPU VM of spot capacity: ask for one, and for another whenever it is taken away, until the study has ended.
#
#     BUCKET=my-bucket ZONE=us-central1-a tpu_vm.sh NAME COMMAND...
#     BUCKET=my-bucket ZONE=us-central1-a tpu_vm.sh digits kd-jax run digits_kd --workdir=gs://my-bucket/runs/digits
#
# On the VM the bucket is also mounted, at /bucket, for data and for several hosts. ACCELERATOR [v5litepod-8] and RUNTIME [v2-alpha-tpuv5-lite] are the kind of TPU; on
# one of several hosts every host runs COMMAND, so add --distributed to it. PACKAGE [kd_jax[tpu,gs]] is what pip installs there.
# SPOT= (empty) asks for capacity that is not taken away. What the program prints, and its exit status, are kept in
# gs://BUCKET/batch/NAME.log and .status. The VM's service account must be
# allowed to write the bucket.
set -euo pipefail

if (($# < 2)) || [[ -z ${BUCKET:-} || -z ${ZONE:-} ]]; then
    echo "usage: BUCKET=... ZONE=... tpu_vm.sh NAME COMMAND..." >&2
    exit 2
fi
name=$1
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
spot=(--spot)
[[ -n ${SPOT-yes} ]] || spot=()
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
printf '%q ' "$@" >"$folder/command"
metadata="startup-script=$here/tpu_vm_startup.sh,kd-jax-command=$folder/command"
status_file=gs://$BUCKET/batch/$name.status

queued() {
    gcloud compute tpus queued-resources "$@" --zone="$ZONE" --quiet
}

request() {
    queued create "$name" --node-id="$name" --accelerator-type="${ACCELERATOR:-v5litepod-8}" \
        --runtime-version="${RUNTIME:-v2-alpha-tpuv5-lite}" "${spot[@]}" \
        --scopes=https://www.googleapis.com/auth/cloud-platform \
        --metadata="^;^kd-jax-name=$name;kd-jax-bucket=$BUCKET;kd-jax-package=${PACKAGE:-kd_jax[tpu,gs]}" \
        --metadata-from-file="$metadata"
}

gcloud storage rm "$status_file" 2>/dev/null || true # of an earlier time
request
while true; do
    sleep "${POLL_SECONDS:-60}"
    if status=$(gcloud storage cat "$status_file" 2>/dev/null); then
        queued delete "$name" --force || true
        echo "$name ended with $status; gs://$BUCKET/batch/$name.log has what it printed"
        exit "$status"
    fi
    state=$(queued describe "$name" --format='value(state.state)')
    case $state in
    SUSPENDED | FAILED)
        echo "$name is $state: another is asked for, the study goes on from what was saved" >&2
        queued delete "$name" --force
        request
        ;;
    esac
done
