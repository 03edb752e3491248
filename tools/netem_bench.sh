#!/usr/bin/env bash
# Trains a few steps with workers behind a bad network, and prints a Markdown table of what that costs.
#
# usage: netem_bench.sh [options] [-- further flags of tempo train]
#   --model NAME (resnet20)   --steps N (10)   --batch-size N (8)   --conv-tile N (4)
#   --workers N (1)           worker processes, all in one namespace
#   --worker-flags "FLAGS"    further flags of tempo-worker
#   --delay MS (2)            of each direction: a round trip takes twice that
#   --loss PERCENT (1)        of the packets of each direction
#   --congestion NAME (cubic) TCP's congestion control on both sides; what a lost packet costs depends on it more than on
#                             anything else (bbr hardly minds 1%)
#   --emulator auto|netem|relay (auto)
#   --time-limit S (300)      of one run; a run that meets it stops after its step and is marked
#   --apps DIR (build/release/apps)
#
# Master and workers are in two network namespaces, joined by a veth pair, and talk gRPC with mutual TLS. Delay and
# loss are those of the kernel's netem; where the kernel lacks it, of tools/packet_relay.py, which carries every
# packet through user space: then the row "relay alone" says what that costs by itself. Everything runs on this one
# machine, so master, workers and relay share its cores. Needs root. Where namespaces cannot be had it says so and
# exits 0.
set -euo pipefail
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
tools=$(cd "$(dirname "$0")" && pwd)
model=resnet20 steps=10 batch=8 tile=4 workers=1 worker_flags="" delay=2 loss=1 congestion=cubic emulator=auto limit=300
apps=$tools/../build/release/apps
while [ $# -gt 0 ]; do
  case $1 in
    --model) model=$2 ;; --steps) steps=$2 ;; --batch-size) batch=$2 ;; --conv-tile) tile=$2 ;;
    --workers) workers=$2 ;; --worker-flags) worker_flags=$2 ;; --delay) delay=$2 ;; --loss) loss=$2 ;;
    --congestion) congestion=$2 ;; --emulator) emulator=$2 ;; --time-limit) limit=$2 ;; --apps) apps=$2 ;;
    --) shift; break ;;
    *) sed -n '2,20p' "$0" >&2; exit 2 ;;
  esac
  shift 2
done
train_flags=("$@")

skip() { echo "netem_bench: skipped: $*"; exit 0; }
note() { echo "netem_bench: $*" >&2; }

for program in tempo tempo-worker; do
  [ -x "$apps/$program" ] || { note "no $program in $apps"; exit 2; }
done
[ "$EUID" -eq 0 ] || skip "needs root"
command -v ip >/dev/null || skip "no ip (iproute2)"
command -v python3 >/dev/null || skip "no python3"

master=tempo-bench-m-$$ worker=tempo-bench-w-$$
folder=$(mktemp -d)
relay_pid="" worker_pids=()

stop() {  # PID...
  kill "$@" 2>/dev/null || true
  wait "$@" 2>/dev/null || true
}
cleanup() {
  [ -z "$relay_pid" ] || stop "$relay_pid"
  [ "${#worker_pids[@]}" -eq 0 ] || stop "${worker_pids[@]}"
  ip netns del "$master" 2>/dev/null || true
  ip netns del "$worker" 2>/dev/null || true
  rm -rf "$folder"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

readonly master_address=10.77.0.1 worker_address=10.77.0.2  # in the namespaces alone
said=$(ip netns add "$master" 2>&1 && ip netns add "$worker" 2>&1) || skip "no network namespaces here: $said"
for name in "$master" "$worker"; do ip -n "$name" link set lo up; done

addresses() {  # DEVICE: gives both ends their address and brings them up
  local end name address
  for end in "$master $master_address" "$worker $worker_address"; do
    read -r name address <<<"$end"
    ip -n "$name" address add "$address/24" dev "$1"
    ip -n "$name" link set "$1" txqueuelen 10000 up  # a queue that loses nothing by itself
    # A setting of the route: a namespace may choose among few for all its connections.
    ip -n "$name" route replace 10.77.0.0/24 dev "$1" src "$address" congctl lock "$congestion" ||
      { note "this kernel has no congestion control named $congestion"; exit 2; }
  done
}

veth() {
  ip link add bench0 netns "$master" type veth peer name bench0 netns "$worker"
  addresses bench0
}

netem() {  # DELAY LOSS, on both ends
  local name
  for name in "$master" "$worker"; do
    # What is lost is one packet, not a burst of them that the sender left for the device to cut.
    ip -n "$name" link set bench0 gso_max_segs 1 2>/dev/null || true
    tc -n "$name" qdisc add dev bench0 root netem limit 100000 delay "$1ms" loss "$2%" || return
  done
}

relay() {  # DELAY LOSS
  "$tools/packet_relay.py" "$master" "$worker" --device bench0 --delay-ms "$1" --loss "$2" >"$folder/relay.txt" &
  relay_pid=$!
  for _ in $(seq 100); do
    grep -q ready "$folder/relay.txt" && break
    kill -0 "$relay_pid" 2>/dev/null || { relay_pid=""; return 1; }
    sleep 0.05
  done
  addresses bench0
}

unlink() {
  if [ -n "$relay_pid" ]; then
    stop "$relay_pid"
    relay_pid=""
    grep -v ready "$folder/relay.txt" | sed 's/^/netem_bench: packets /' >&2 || true
  fi
  ip -n "$master" link del bench0 2>/dev/null || true
}

choose_emulator() {
  if [ "$emulator" = auto ]; then
    veth
    if said=$(netem "$delay" "$loss" 2>&1); then
      emulator=netem
    else
      emulator=relay
      note "no netem here: ${said//$'\n'/; }; packets go through tools/packet_relay.py instead"
    fi
    unlink
  fi
  [ "$emulator" != relay ] || [ -c /dev/net/tun ] || skip "neither netem nor /dev/net/tun"
}

start_workers() {
  uris="" worker_pids=()
  for i in $(seq "$workers"); do
    local port=$((7000 + i))
    # shellcheck disable=SC2086  # flags are words
    ip netns exec "$worker" "$apps/tempo-worker" --listen "grpc://$worker_address:$port" --tls "$folder/tls" \
      $worker_flags >"$folder/worker$i.txt" 2>&1 &
    worker_pids+=($!)
    uris+="${uris:+,}grpc://$worker_address:$port"
  done
  for i in $(seq "$workers"); do
    for _ in $(seq 200); do
      grep -q "listening" "$folder/worker$i.txt" && break
      kill -0 "${worker_pids[$((i - 1))]}" 2>/dev/null || { cat "$folder/worker$i.txt" >&2; exit 1; }
      sleep 0.1
    done
  done
}

stop_workers() {
  [ "${#worker_pids[@]}" -eq 0 ] || stop "${worker_pids[@]}"
  worker_pids=()
}

retransmitted() {  # TCP segments of both namespaces
  for name in "$master" "$worker"; do ip netns exec "$name" cat /proc/net/snmp; done |
    awk '$1 == "Tcp:" && $2 ~ /[0-9]/ { sum += $13 } END { print sum + 0 }'
}

common=(--model "$model" --data synthetic --train-size $((steps * batch)) --test-size "$batch" --epochs 1 --steps "$steps"
        --batch-size "$batch" --seed 7 --conv-tile "$tile" --offload all --key "$folder/key" --tls "$folder/tls")

train() {  # ROW WORKERS COMMAND-PREFIX...
  local row=$1 where=$2 before code=0
  shift 2
  before=$(retransmitted)
  timeout --signal TERM --kill-after 60 "$limit" "$@" "$apps/tempo" train "${common[@]}" --workers "$where" \
    --out "$folder/$row" "${train_flags[@]}" >"$folder/$row.txt" 2>&1 || code=$?
  echo "$code $(($(retransmitted) - before))" >"$folder/$row.status"
  [ -f "$folder/$row/summary.json" ] || { note "run \"$row\" ended with $code:"; tail -n 3 "$folder/$row.txt" >&2; }
  rows+=("$row")
}

remote() {  # ROW LINK...
  local row=$1
  shift
  "$@" || { note "cannot set up: $*"; exit 1; }
  start_workers
  train "$row" "$uris" ip netns exec "$master"
  stop_workers
  unlink
}

impaired() { if [ "$emulator" = netem ]; then veth && netem "$@"; else relay "$@"; fi; }

choose_emulator
"$apps/tempo" keygen --out "$folder/key" >/dev/null
"$apps/tempo" keygen --tls "$folder/tls" --host "$worker_address" >/dev/null
rows=()
train "local" local
remote "plain link" veth
[ "$emulator" = netem ] || remote "relay alone" relay 0 0
remote "delay $delay ms" impaired "$delay" 0
[ "$loss" = 0 ] || remote "delay $delay ms, loss $loss%" impaired "$delay" "$loss"

echo "$model, batch $batch, $steps steps, conv-tile $tile; $workers worker(s) over gRPC with TLS; TCP: $congestion; delay and"
echo "loss of each direction by $emulator; $(nproc) cores for all. Further flags: ${train_flags[*]:-none}."
echo
python3 - "$folder" "${rows[@]}" <<'PYTHON'
import json, pathlib, sys

folder, rows = pathlib.Path(sys.argv[1]), sys.argv[2:]
columns = ["network", "steps", "steps/s", "median step s", "waiting for workers", "MB out a step", "MB in a step",
           "TCP sent again"]
print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
failed = 0
for row in rows:
    code, again = (folder / f"{row}.status").read_text().split()
    again = "" if row == "local" else again
    try:
        summary = json.loads((folder / row / "summary.json").read_text())
        lines = map(json.loads, (folder / row / "metrics.jsonl").read_text().splitlines())
        seconds = [line["seconds"] for line in lines if "seconds" in line]
    except (OSError, ValueError):
        print(f"| {row} | none: exit code {code} | | | | | | {again} |")
        failed += 1
        continue
    batch = summary["batch_size"]
    done = f"{summary['steps']}" + ("" if summary["completed"] else " (time limit)")
    wait = summary["wall_seconds"]["wait_for_workers"] / max(1e-9, sum(seconds))
    out, back = (summary[f"bytes_{way}_workers_per_sample"] * batch / 1e6 for way in ("to", "from"))
    print(f"| {row} | {done} | {summary['samples_per_second'] / batch:.3f} | {summary['step_seconds_median']:.3f} "
          f"| {wait:.0%} | {out:.1f} | {back:.1f} | {again} |")
sys.exit(failed > 0)
PYTHON
