#!/usr/bin/env bash
# The link boundaries, proved on what was built: the worker's library refers to no trusted code, and the master's
# program holds nothing of the audit, which undoes all protection.
set -euo pipefail
build=${1:?usage: check_symbols.sh BUILD_FOLDER}

refuse() { # FILE PATTERN WHO
  local found
  [ -f "$1" ] || { echo "symbols: $1 is not built" >&2; exit 2; }
  if found=$(nm --demangle "${@:4}" "$1" | grep -E "$2"); then
    echo "symbols: $3:" >&2
    echo "$found" >&2
    exit 1
  fi
}

trusted='tempo::(obfuscation|integrity|nn|train|seal|attest|service|audit|SecretKey|Csprng|derive_key)'
refuse "$build/src/worker/libtempo_worker.a" "$trusted" "the worker refers to trusted code" --undefined-only
refuse "$build/src/observe/libtempo_observe.a" "$trusted" "what watches both sides refers to trusted code" --undefined-only
refuse "$build/apps/tempo-worker" "$trusted" "tempo-worker holds trusted code"
refuse "$build/apps/tempo" 'tempo::audit' "the master holds code of the audit"
for program in tempo tempo-worker; do
  refuse "$build/apps/$program" 'tempo::bench' "$program holds code of measurements, where workers answer without computing"
done

# LibTorch's wheel carries parts of the C++ standard library, older than the system's. Who is needed first is used.
for program in "$build"/apps/tempo "$build"/apps/tempo-worker "$build"/apps/tempo-audit "$build"/apps/tempo-bench; do
  [ -f "$program" ] || continue
  first=$(readelf --dynamic "$program" | grep -oE 'NEEDED.*\[(libstdc\+\+|libtorch|libc10)' | head -1 || true)
  case $first in
    *libstdc++) ;;
    *) echo "symbols: $program does not need the standard library first, expected it before LibTorch" >&2; exit 1 ;;
  esac
done
echo "symbols: ok"
