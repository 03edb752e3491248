#!/usr/bin/env bash
# Trains one small network twice on generated images, wholly in the TEE and over an untrusted worker under the default
# protection. Leaves a picture and a report in FOLDER, which it empties first.
set -euo pipefail
usage="usage: demo.sh PATH_TO_TEMPO FOLDER"
tempo=${1:?$usage} folder=${2:?$usage}
tools=$(cd "$(dirname "$0")" && pwd)
rm -rf "$folder/plain" "$folder/blinded" "$folder/key" "$folder/worker_view.png" "$folder/report.html"
mkdir -p "$folder"
"$tempo" keygen --out "$folder/key" >/dev/null
# One seed for both, so that they can be compared: whoever knows it knows the initial weights.
common=(--model lenet --data synthetic --train-size 2000 --test-size 500 --epochs 8 --batch-size 32 --lr 0.05 --seed 7
        --key "$folder/key")

echo "1 of 3  Plain training: every layer inside the TEE. This takes some ten seconds on two cores."
"$tempo" train "${common[@]}" --workers local --out "$folder/plain" >"$folder/plain.txt"
echo
echo "2 of 3  Blinded training: a worker computes every layer but the first and last, under the default protection."
echo "        This takes about half a minute on two cores."
# By default a layer stays in the TEE where blinding costs more than computing. This network is small: all would stay.
"$tempo" train "${common[@]}" --workers inprocess: --offload all --out "$folder/blinded" >"$folder/blinded.txt"
echo
echo "3 of 3  A test image, what a worker holds of it without protection, and what it holds under the default."
"$tempo" picture --run "$folder/blinded" --key "$folder/key" --out "$folder/worker_view.png"
"$tempo" report "$folder/plain" "$folder/blinded" --out "$folder/report.html" >/dev/null
python3 "$tools/demo_summary.py" "$folder/plain" "$folder/blinded" "$folder"
