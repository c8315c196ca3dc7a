#!/usr/bin/env bash
# Run a command as a managed job of SkyPilot, sky.yaml, and wait for its end. For xargs.sh, which gives it a run each:
#
#     BUCKET=my-bucket LAUNCH=sky_run.sh xargs.sh 8 kd-jax run digits_kd --workdir=/bucket/runs/digits
#
# The bucket is mounted at /bucket there, and must be here too, for --list and for the analysis.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
run=${*: -1}
name=kd-jax-$(tr -c '[:alnum:]\n' - <<<"$run" | tail -c 50)
sky jobs launch --yes --name "$name" --env BUCKET="$BUCKET" --env COMMAND="$(printf '%q ' "$@")" "$here/sky.yaml"
