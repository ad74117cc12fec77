#!/usr/bin/env bash
# rendered by tensoryard 1.2.3, run golden-0007, template job/horovod.sh.j2
set -euo pipefail

# exports
export PYTHONUNBUFFERED=1
export TYARD_RUN_DIR=/yard/runs/golden-0007
export TYARD_RUN_ID=golden-0007
export PATH="$TYARD_RUN_DIR/environment/bin:$PATH"

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

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

# the script goes to the ranks in a file, each word ended by a NUL
printf '%s\0' "${tyard_script[@]}" > "$TYARD_RUN_DIR/launch/command"

# launch: by mpirun where the environment's Horovod was built with MPI, else over Gloo
if [ -e "$TYARD_RUN_DIR/launch/horovod-mpi" ] && command -v mpirun >/dev/null; then
  echo "Launching by mpirun"
  mpirun \
    --bind-to none \
    --map-by slot \
    --oversubscribe \
    -np 8 \
    "${tyard_rank[@]}" -
else
  echo "Launching over Gloo: no mpirun here, or Horovod was built without MPI"
  TYARD_HOSTS=localhost
  horovodrun \
    --gloo \
    -np 8 \
    -H "${TYARD_HOSTS//,/:8,}:8" \
    "${tyard_rank[@]}" -
fi
