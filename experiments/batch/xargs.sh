#!/usr/bin/env bash
# Every run of a study as a program of its own, so many at once; then the analysis.
#
#     xargs.sh AT_ONCE COMMAND...
#     xargs.sh 4 kd-jax run digits_kd --workdir=runs/digits --platform=cpu
#
# LAUNCH, if it is set, is a program that is called with COMMAND... --only RUN instead, such as sky_run.sh; it must end when
# the run has ended, with its status.
set -euo pipefail

if (($# < 2)); then
    echo "usage: xargs.sh AT_ONCE COMMAND..." >&2
    exit 2
fi
at_once=$1
shift
launch=()
[[ -n ${LAUNCH:-} ]] && launch=("$LAUNCH")

# Twice: what can start, and then what waited for a teacher. A run that fails holds up those alone that need it.
failed=0
for _ in 1 2; do
    names=$("$@" --list --ready) # in two steps, so that bad input ends here, with its status
    if [[ -n $names ]]; then
        xargs -d '\n' -n 1 -P "$at_once" "${launch[@]}" "$@" --only <<<"$names" || failed=1
    fi
done
names=$("$@" --list)
if [[ -n $names ]]; then
    echo "xargs.sh: not finished: ${names//$'\n'/ }; give the same command again" >&2
    exit 1
fi
((failed)) && echo "xargs.sh: some program failed, but all runs are finished" >&2
exec "$@"
