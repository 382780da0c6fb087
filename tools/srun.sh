# Sourced by the scripts slurm_*.sh: launch PARTITION JOB_NAME SCRIPT [argument]...
launch() {
    local tools
    tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    local gpus=${GPUS:-4}
    local per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    local extra=()
    read -ra extra <<<"${SRUN_ARGS:-}"
    PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}" srun \
        --partition "$1" --job-name "$2" --gres "gpu:$per_node" \
        --ntasks "$gpus" --ntasks-per-node "$per_node" \
        --cpus-per-task "${CPUS_PER_TASK:-5}" --kill-on-bad-exit "${KILL_ON_BAD_EXIT:-1}" \
        ${extra[@]+"${extra[@]}"} "${PYTHON:-python}" -u "$tools/$3" "${@:4}"
}
