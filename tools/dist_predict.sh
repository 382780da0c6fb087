#!/usr/bin/env bash
# Usage: tools/dist_predict.sh GPUS IMAGES [argument of predict.py]...
# Without a GPU, GPUS is the number of processes. Several machines: NNODES, NODE_RANK.
set -euo pipefail
set -m # an interrupt must reach the ranks, which are in the background

if [ $# -lt 2 ]; then
    sed -n '2,3s/^# //p' "$0" >&2
    exit 2
fi
GPUS=$1
tools=$(cd "$(dirname "$0")" && pwd)
export MMSEG_SIGLIP_RANK=1 WORLD_SIZE=$((${NNODES:-1} * GPUS)) OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"

# Not torchrun's, which ends all ranks when one has died: here the others do its work.
ranks=()
trap 'kill -INT "${ranks[@]}" 2>/dev/null || true' INT
trap 'kill -TERM "${ranks[@]}" 2>/dev/null || true' TERM
for ((number = 0; number < GPUS; number++)); do
    RANK=$((${NODE_RANK:-0} * GPUS + number)) LOCAL_RANK=$number \
        "${PYTHON:-python}" "$tools/predict.py" --launcher pytorch "${@:2}" &
    ranks+=($!)
done

status=0
for number in "${!ranks[@]}"; do
    code=0
    wait "${ranks[$number]}" || code=$?
    while kill -0 "${ranks[$number]}" 2>/dev/null; do # a signal has ended the waiting alone
        code=0
        wait "${ranks[$number]}" || code=$?
    done
    if [ "$number" = 0 ]; then
        status=$code
    elif [ "$code" != 0 ]; then
        echo "rank $number of this machine ended with status $code" >&2
    fi
done
exit "$status"
