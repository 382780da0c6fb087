# Sourced by the scripts dist_*.sh: launch PROCESSES SCRIPT [argument]...; takes the shell's place,
# so that a signal for the script is one for the run.
launch() {
    local processes=$1 script=$2
    local tools
    tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    local rendezvous
    if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
        rendezvous=(--standalone)
    else
        rendezvous=(
            --nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}"
            --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${PORT:-29500}"
        )
    fi
    PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python}" -m torch.distributed.run \
        "${rendezvous[@]}" --nproc-per-node "$processes" "$tools/$script" "${@:3}"
}
