#!/usr/bin/env bash
# Every C++ file is as clang-format 14 would write it.
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files '*.h' '*.cpp' | xargs clang-format-14 --dry-run --Werror
echo "format: ok"
