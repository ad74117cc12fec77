#!/usr/bin/env bash
# rendered by tensoryard 1.2.3, run golden-0007, template job/multi_worker.sh.j2
#SBATCH --chdir=/yard/runs/golden-0007
#SBATCH --exclusive
#SBATCH --gpus-per-node=1
#SBATCH --job-name=golden-0007
#SBATCH --mem=0
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/yard/runs/golden-0007/logs/launch.log
#SBATCH --requeue
#SBATCH --time=92
set -euo pipefail

# exports
export PYTHONUNBUFFERED=1
export TYARD_RUN_DIR=/yard/runs/golden-0007
export TYARD_RUN_ID=golden-0007
export PATH="$TYARD_RUN_DIR/environment/bin:$PATH"
TYARD_HOSTS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | paste -sd, -)
export TYARD_HOSTS

# an attempt begins: what an earlier one recorded is set aside; its end is marked, and leaves nothing running here
trap : TERM
tyard_attempt=("$TYARD_RUN_DIR/environment/bin/python" -I -S "$TYARD_RUN_DIR/launch/attempt.py")
"${tyard_attempt[@]}" begin || exit 0
trap '"${tyard_attempt[@]}" end "$?"' EXIT

# the script and its arguments
tyard_script=(
  python
  train.py
  --epochs
  3
  --data
  '/yard/data/it'"'"'s'
)
tyard_rank=("$TYARD_RUN_DIR/environment/bin/python" -I -S "$TYARD_RUN_DIR/launch/rank.py")
cd "$TYARD_RUN_DIR/source"

# launch: one supervisor a task on the host that launch/hostfile has for it; it finds its task by SLURM_PROCID
export SLURM_HOSTFILE="$TYARD_RUN_DIR/launch/hostfile"
srun \
  --ntasks=3 \
  --distribution=arbitrary \
  --cpu-bind=none \
  --mpi=none \
  --kill-on-bad-exit=1 \
  "${tyard_rank[@]}" - "${tyard_script[@]}"
