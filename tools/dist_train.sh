#!/usr/bin/env bash
# Usage: tools/dist_train.sh CONFIG GPUS [argument of train.py]...
# Without a GPU, GPUS is the number of processes. Several machines: NNODES, NODE_RANK, MASTER_ADDR,
# PORT.
set -euo pipefail

if [ $# -lt 2 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
CONFIG=$1 GPUS=$2
source "$(dirname "$0")/torchrun.sh"

launch "$GPUS" train.py "$CONFIG" --launcher pytorch "${@:3}"
