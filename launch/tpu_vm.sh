#!/usr/bin/env bash
# One run on the hosts of a Cloud TPU VM, started from here. `sadist launch tpu-vm` fills in what stands in @{...}.
# Run it in tmux or with nohup: it stays until the run has ended, and starts it again when a host was lost.
set -uo pipefail

tpu=(@{name} --zone=@{zone}@{project})
max_restarts=@{max_restarts}
create=(@{create})  # empty: a VM that was taken away is not made again
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# What every host does: make the environment once, end what an earlier start left, then run.
read -r -d '' remote <<'REMOTE'
set -u
mkdir -p ~/sadist && cd ~/sadist || exit 1
requirement=@{requirement}
if [ "$(cat venv/.holds 2>/dev/null)" != "$requirement" ]; then
  python3 -m venv venv && venv/bin/pip install --quiet "$requirement" && echo "$requirement" >venv/.holds || exit 1
fi
old=$(cat run.pid 2>/dev/null)
if [ -n "$old" ] && grep -q sadist "/proc/$old/cmdline" 2>/dev/null; then
  kill -TERM "$old"
  for _ in $(seq 120); do kill -0 "$old" 2>/dev/null || break; sleep 1; done
  kill -KILL "$old" 2>/dev/null
fi
@{setup}
export SADIST_HOSTS=auto  # JAX knows which host of the slice this is
touch run.log
shown=$(($(wc -l <run.log) + 1))
nohup venv/bin/sadist @{arguments} >>run.log 2>&1 </dev/null &
pid=$!
echo "$pid" >run.pid
tail --pid="$pid" --lines="+$shown" --follow run.log
wait "$pid"
code=$?
rm -f run.pid
echo "tpu_vm.sh: $(hostname) ended with code $code"
exit "$code"
REMOTE

restarts=0
while true; do
  begin=$SECONDS
  gcloud compute tpus tpu-vm ssh "${tpu[@]}" --worker=all --command="$remote" 2>&1 | tee "$log"
  code=${PIPESTATUS[0]}
  if [ "$code" -eq 0 ]; then exit 0; fi
  if grep -q 'ended with code 2$' "$log"; then exit 2; fi  # bad input: the same again would end the same way
  if grep -q 'ended with code 75$' "$log"; then continue; fi  # asked to stop, and saved
  if [ $((SECONDS - begin)) -gt 3600 ]; then restarts=0; fi
  if [ "$restarts" -ge "$max_restarts" ]; then exit "$code"; fi
  restarts=$((restarts + 1))
  pause=$((restarts < 6 ? 2 ** restarts : 60))
  echo "tpu_vm.sh: all hosts start again in $pause s, restart $restarts of $max_restarts"
  sleep "$pause"
  if [ "${#create[@]}" -gt 0 ]; then
    state=$(gcloud compute tpus tpu-vm describe "${tpu[@]}" --format='value(state)' 2>/dev/null)
    if [ "$state" != READY ]; then
      gcloud compute tpus tpu-vm delete "${tpu[@]}" --quiet
      until gcloud compute tpus tpu-vm create "${tpu[@]}" "${create[@]}"; do sleep 60; done
    fi
  fi
done
