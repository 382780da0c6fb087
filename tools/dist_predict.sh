#!/usr/bin/env bash
# Usage: tools/dist_predict.sh GPUS IMAGES [argument of predict.py]...
# Without a GPU, GPUS is the number of processes. Several machines: NNODES, NODE_RANK, MASTER_ADDR,
# PORT.
set -euo pipefail

if [ $# -lt 2 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
GPUS=$1
source "$(dirname "$0")/torchrun.sh"

launch "$GPUS" predict.py --launcher pytorch "${@:2}"
