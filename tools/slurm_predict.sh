#!/usr/bin/env bash
# Usage: tools/slurm_predict.sh PARTITION JOB_NAME IMAGES [argument of predict.py]...
# From the environment: GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS.
set -euo pipefail

if [ $# -lt 3 ]; then
    sed -n '2,3s/^# //p' "$0" >&2
    exit 2
fi
KILL_ON_BAD_EXIT=0 # the others do the work of one that has died
source "$(dirname "$0")/srun.sh"

launch "$1" "$2" predict.py "$3" --launcher slurm "${@:4}"
