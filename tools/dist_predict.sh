#!/usr/bin/env bash
# Usage: tools/dist_predict.sh GPUS IMAGES [argument of predict.py]...
# Without a GPU, GPUS is the number of processes. Several machines: NNODES, NODE_RANK.
set -euo pipefail

if [ $# -lt 2 ] || [[ ! $1 =~ ^[1-9][0-9]*$ ]]; then
    sed -n '2,3s/^# //p' "$0" >&2
    exit 2
fi
GPUS=$1
tools=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"
export MMSEG_SIGLIP_LAUNCHER=$$ WORLD_SIZE=$((${NNODES:-1} * GPUS))
[ "$GPUS" = 1 ] || export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# Not torchrun's, which ends all ranks when one has died: here the others do its work.
ranks=() stopped=
stop() {
    stopped=$1
    kill -TERM ${ranks[@]+"${ranks[@]}"} 2>/dev/null || true
}
trap 'stop 130' INT
trap 'stop 131' QUIT
trap 'stop 143' TERM
trap 'stop 129' HUP
for ((number = 0; number < GPUS; number++)); do
    [ -z "$stopped" ] || break
    RANK=$((${NODE_RANK:-0} * GPUS + number)) LOCAL_RANK=$number \
        "${PYTHON:-python}" "$tools/predict.py" --launcher pytorch "${@:2}" &
    ranks+=($!)
done
[ -z "$stopped" ] || stop "$stopped" # the one that started meanwhile

status=0
for number in ${ranks[@]+"${!ranks[@]}"}; do
    while
        code=0
        wait "${ranks[$number]}" || code=$?
        kill -0 "${ranks[$number]}" 2>/dev/null # a signal has ended the waiting alone
    do :; done
    if [ "$number" = 0 ]; then
        status=$code
    elif [ "$code" != 0 ] && [ -z "$stopped" ]; then
        echo "rank $number of this machine ended with status $code" >&2
    fi
done
exit "${stopped:-$status}"
