#!/usr/bin/env bash
# The worker's library refers to no trusted code: none of its undefined symbols lies in a trusted namespace.
set -euo pipefail
build=${1:?usage: check_worker_symbols.sh BUILD_FOLDER}
library="$build/src/worker/libtempo_worker.a"
[ -f "$library" ] || { echo "worker symbols: $library is not built" >&2; exit 2; }
trusted='tempo::(obfuscation|integrity|nn|train|seal|attest|service|SecretKey|Csprng|derive_key)'
if found=$(nm --demangle --undefined-only "$library" | grep -E "$trusted"); then
  echo "worker symbols: the worker refers to trusted code:" >&2
  echo "$found" >&2
  exit 1
fi
echo "worker symbols: ok"
