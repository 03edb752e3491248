#!/usr/bin/env bash
# Trains one small network twice on generated images, wholly in the TEE and with blinded workers, and shows both.
set -euo pipefail
tempo=${1:?usage: demo.sh PATH_TO_TEMPO}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$tempo" keygen --out "$folder/key" >/dev/null
common=(--model resnet20 --data synthetic --train-size 4000 --test-size 1000 --epochs 3 --batch-size 64 --lr 0.02
        --seed 7 --key "$folder/key")

echo "Plain: every layer inside the TEE."
"$tempo" train "${common[@]}" --workers local --out "$folder/plain" >"$folder/plain.txt"
echo
echo "Blinded: every layer but the first and last computed by an untrusted worker, under secret rotations."
# Tiles of 4 keep the demo short; the default, 1, hides more and moves three times the data.
"$tempo" train "${common[@]}" --workers inprocess: --protection rotated --conv-tile 4 --offload all --out "$folder/blinded" \
  >"$folder/blinded.txt"
echo
python3 "$(dirname "$0")/compare_runs.py" "$folder/plain" "$folder/blinded"
