#!/usr/bin/env bash
# rendered by tensoryard 1.2.3, run golden-0007, template job/horovod.sh.j2
set -euo pipefail

# exports
export LANG=C
export OMPI_MCA_btl_vader_single_copy_mechanism=none
export PYTHONUNBUFFERED=1
export TYARD_RUN_DIR=/yard/runs/golden-0007
export TYARD_RUN_ID=golden-0007
export PATH="$TYARD_RUN_DIR/environment/bin:$PATH"

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

# launch: by mpirun where the environment's Horovod was built with MPI, else over Gloo
if [ -e "$TYARD_RUN_DIR/launch/horovod-mpi" ] && command -v mpirun >/dev/null; then
  echo "Launching by mpirun"
  mpirun \
    --bind-to none \
    --map-by slot \
    --oversubscribe \
    -np 2 \
    "${tyard_rank[@]}" -
else
  echo "Horovod in an image is started by mpirun, or by srun over PMIx: here is neither that it can use" >&2
  exit 1
fi
