#!/usr/bin/env bash
# One run on the hosts of a Cloud TPU VM, started from here. `sadist launch tpu-vm` fills in what stands in @{...}.
# Run it in tmux or with nohup: it stays until the run has ended, and starts it again when a host was lost.
set -uo pipefail

tpu=(my-tpu --zone=us-central2-b)
max_restarts=10
create=()  # empty: a VM that was taken away is not made anew
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# What every host does: end what an earlier start left, make the environment once, then run.
read -r -d '' remote <<'REMOTE'
set -u
mkdir -p ~/sadist && cd ~/sadist || exit 1
old=$(cat run.pid 2>/dev/null)
if [ -n "$old" ] && grep -q sadist "/proc/$old/cmdline" 2>/dev/null; then
  kill -TERM "$old"
  for _ in $(seq 120); do kill -0 "$old" 2>/dev/null || break; sleep 1; done
  kill -KILL "$old" 2>/dev/null
fi
requirement='sadist_jax[tpu] @ git+https://host/owner/sadist_jax'
finish() {
  echo "tpu_vm.sh: $(hostname) ended with code $1"
  exit "$1"
}
install() {  # the host's own Python may be older than 3.11: uv, which needs none, brings one
  rm -rf venv
  PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv &&
    python3 -m uv venv --quiet --python 3.11 venv &&
    python3 -m uv pip install --quiet --python venv/bin/python "$requirement" &&
    echo "$requirement" >venv/.holds
}
if [ "$(cat venv/.holds 2>/dev/null)" != "$requirement" ] && ! install; then
  echo "tpu_vm.sh: $(hostname) cannot install --requirement $requirement; what is wrong with it stands above"
  finish 2
fi
export SADIST_HOSTS=auto  # JAX knows which host of the slice this is
touch run.log
shown=$(($(wc -l <run.log) + 1))
nohup venv/bin/sadist train sami_ti:full1024 --optim.lr 3e-4 >>run.log 2>&1 </dev/null &
pid=$!
echo "$pid" >run.pid
tail --pid="$pid" --lines="+$shown" --follow run.log
wait "$pid"
code=$?
rm -f run.pid
finish "$code"
REMOTE

# Come back once the VM is ready. It is deleted only where it is certain that it was taken away: a VM that is being
# repaired comes back, and a `describe` that fails, for a network that hiccups, says nothing of the VM.
make_ready() {
  local state
  while true; do
    state=$(gcloud compute tpus tpu-vm describe "${tpu[@]}" --format='value(state)' 2>"$log") ||
      state=$(grep -o NOT_FOUND "$log" | head -n 1)
    case $state in
      READY) return ;;
      PREEMPTED | TERMINATED | STOPPED) gcloud compute tpus tpu-vm delete "${tpu[@]}" --quiet && continue ;;
      NOT_FOUND) gcloud compute tpus tpu-vm create "${tpu[@]}" "${create[@]}" && continue ;;
      *) cat "$log" ;;
    esac
    echo "tpu_vm.sh: the VM is not ready (${state:-not known}), looked for again in 60 s"
    sleep 60
  done
}

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
  if [ "${#create[@]}" -gt 0 ]; then make_ready; fi
done
