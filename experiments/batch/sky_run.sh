#!/usr/bin/env bash
# Run a command as a managed job of SkyPilot, sky.yaml, and wait for its end. For xargs.sh, which gives it a run each:
#
#     LAUNCH=sky_run.sh xargs.sh 8 kd-jax run digits_kd --workdir=s3://my-bucket/runs/digits
#
# This machine lists the runs and analyses them, so it must be allowed to use the bucket too.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
run=${*: -1}
name=kd-jax-$(tr -c '[:alnum:]\n' - <<<"$run" | tail -c 50)
sky jobs launch --yes --name "$name" --env COMMAND="$(printf '%q ' "$@")" "$here/sky.yaml"
