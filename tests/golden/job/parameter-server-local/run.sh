#!/usr/bin/env bash
# rendered by tensoryard 1.2.3, run golden-0007, template job/parameter_server.sh.j2
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
export GRPC_FAIL_FAST="${GRPC_FAIL_FAST:-use_caller}"

# launch: one supervisor a task, all on this machine
tyard_pids=()
for tyard_task in chief-0 worker-0 worker-1 ps-0 ps-1 evaluator-0; do
  "${tyard_rank[@]}" "$tyard_task" "${tyard_script[@]}" &
  tyard_pids+=("$!")
done
tyard_status=0
for tyard_pid in "${tyard_pids[@]}"; do
  wait "$tyard_pid" || tyard_status=$?
done
exit "$tyard_status"
