#!/usr/bin/env bash
# What a TPU VM of tpu_vm.sh does when it starts, and again after a reboot: mount the bucket, install, run the command.
set -euo pipefail

metadata() {
    curl -sf -H 'Metadata-Flavor: Google' "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}

name=$(metadata kd-jax-name)
bucket=$(metadata kd-jax-bucket)
command=$(metadata kd-jax-command)
worker=$(metadata agent-worker-number || echo 0)
package=$(metadata kd-jax-package)
log=/tmp/$name-$worker.log
exec >>"$log" 2>&1

if ! command -v gcsfuse >/dev/null; then
    echo "deb [signed-by=/usr/share/keyrings/cloud.google.asc] https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" \
        >/etc/apt/sources.list.d/gcsfuse.list
    curl -sf https://packages.cloud.google.com/apt/doc/apt-key.gpg -o /usr/share/keyrings/cloud.google.asc
    apt-get update
    apt-get install -y gcsfuse
fi
mkdir -p /bucket
mountpoint -q /bucket || gcsfuse --implicit-dirs --rename-dir-limit=100000 "$bucket" /bucket

if [[ ! -x /opt/kd_jax/bin/kd-jax ]]; then
    python3 -m venv /opt/kd_jax
    /opt/kd_jax/bin/pip install -q "$package"
fi
export PATH=/opt/kd_jax/bin:$PATH

# The system sends SIGTERM to all when the VM is taken away; 75 is then no end, and whoever asked for this VM asks for another.
status=75
for try in 1 2 3; do
    status=0
    bash -c "exec $command" || status=$?
    ((status == 1)) || break # a failure that may not come again: a lost connection, a neighbour that died
    echo "try $try ended with $status"
    sleep 30
done
gcloud storage cp "$log" "gs://$bucket/batch/$name$([[ $worker == 0 ]] || echo "-$worker").log" || true
if [[ $status != 75 && $worker == 0 ]]; then
    echo "$status" | gcloud storage cp - "gs://$bucket/batch/$name.status"
fi
