#!/usr/bin/env bash
# Builds the image of README.md.
#
# usage: build.sh TEMPO OUT    TEMPO: the program, built on Debian 12    OUT: a folder, made if it is not there
#
# Needs mkosi 24 and its tools (bookworm-backports has them) and the network. Leaves in OUT: tempo-master.raw, the disk;
# tempo-master.efi, the UKI; linux, initrd and cmdline, the parts of the UKI.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -eq 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
program=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Only what tempo itself brings along: every byte below this folder is under the root hash.
install -D -m 0755 "$program" "$work/tree/usr/local/bin/tempo"
mkosi --directory "$here" --output-dir "$out" --extra-tree "$work/tree" --force build

for part in linux initrd cmdline; do
  objcopy --dump-section ".$part=$out/$part" "$out/tempo-master.efi" "$work/copy"
done
grep -q 'roothash=[0-9a-f]\{64\}' "$out/cmdline" || { echo "build: no root hash on the command line"; exit 1; }
(cd "$out" && sha256sum tempo-master.raw tempo-master.efi linux initrd cmdline)
