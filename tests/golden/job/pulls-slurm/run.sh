#!/usr/bin/env bash
# rendered by tensoryard 1.2.3, run golden-0007, template job/horovod.sh.j2
#SBATCH --chdir=/yard/runs/golden-0007
#SBATCH --exclusive
#SBATCH --job-name=golden-0007
#SBATCH --mem=0
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/yard/runs/golden-0007/logs/launch.log
#SBATCH --requeue
set -euo pipefail

# exports
export OMPI_MCA_btl_vader_single_copy_mechanism=none
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

# every node that has not got the image yet pulls it, all at once
rm -rf "$TYARD_RUN_DIR/launch/pulling"
mkdir "$TYARD_RUN_DIR/launch/pulling"
tyard_pull=("$TYARD_RUN_DIR/environment/bin/python" -I -S "$TYARD_RUN_DIR/launch/pull_image.py")
srun \
  --ntasks=2 \
  --ntasks-per-node=1 \
  --cpu-bind=none \
  --mpi=none \
  --kill-on-bad-exit=1 \
  "${tyard_pull[@]}"
touch "$TYARD_RUN_DIR/launch/pulling/done"

# the script and its arguments, in the image
tyard_script=(
  "$TYARD_RUN_DIR/environment/bin/python" -I -S "$TYARD_RUN_DIR/launch/in_image.py"
  python
  train.py
  --epochs
  3
  --data
  '/yard/data/it'"'"'s'
)
tyard_rank=("$TYARD_RUN_DIR/environment/bin/python" -I -S "$TYARD_RUN_DIR/launch/rank.py")
cd "$TYARD_RUN_DIR/source"

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

# the script goes to the ranks in a file, each word ended by a NUL
printf '%s\0' "${tyard_script[@]}" > "$TYARD_RUN_DIR/launch/command"

# launch: by mpirun where it starts its daemons through Slurm, else by srun over PMIx, else over Gloo
tyard_by=gloo
if [ -e "$TYARD_RUN_DIR/launch/horovod-mpi" ]; then
  if command -v mpirun >/dev/null && ompi_info --parsable 2>/dev/null | grep 'mca:plm:slurm:' >/dev/null; then
    tyard_by=mpirun
  elif srun --mpi=list 2>&1 | grep pmix >/dev/null; then
    tyard_by=srun
  fi
fi
if [ "$tyard_by" = mpirun ]; then
  echo "Launching by mpirun inside of the allocation"
  mpirun \
    --bind-to none \
    --map-by ppr:1:node \
    --oversubscribe \
    -np 2 \
    "${tyard_rank[@]}" -
elif [ "$tyard_by" = srun ]; then
  echo "Launching by srun over PMIx: no mpirun here that goes through Slurm"
  srun \
    --ntasks=2 \
    --ntasks-per-node=1 \
    --cpu-bind=none \
    --mpi=pmix \
    --kill-on-bad-exit=1 \
    "${tyard_rank[@]}" -
else
  echo "Horovod in an image is started by mpirun, or by srun over PMIx: here is neither that it can use" >&2
  exit 1
fi
