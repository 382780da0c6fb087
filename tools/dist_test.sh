#!/usr/bin/env bash
# Usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS [argument of test.py]...
# Without a GPU, GPUS is the number of processes. Several machines: NNODES, NODE_RANK, MASTER_ADDR,
# PORT. For a training-free model CHECKPOINT may be '', which takes the config's encoder.
set -euo pipefail

if [ $# -lt 3 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
CONFIG=$1 CHECKPOINT=$2 GPUS=$3
source "$(dirname "$0")/torchrun.sh"

launch "$GPUS" test.py "$CONFIG" ${CHECKPOINT:+"$CHECKPOINT"} --launcher pytorch "${@:4}"
