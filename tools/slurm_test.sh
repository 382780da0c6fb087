#!/usr/bin/env bash
# Usage: tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [argument of test.py]...
# From the environment: GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS.
set -euo pipefail

if [ $# -lt 4 ]; then
    sed -n '2,3s/^# //p' "$0" >&2
    exit 2
fi
CHECKPOINT=$4
source "$(dirname "$0")/srun.sh"

launch "$1" "$2" test.py "$3" ${CHECKPOINT:+"$CHECKPOINT"} --launcher slurm "${@:5}"
