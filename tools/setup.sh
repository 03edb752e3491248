#!/usr/bin/env bash
# Installs what Tempo builds and tests with, on Debian 12. Does nothing where everything is there already.
#
#   tools/setup.sh              what the build and the tests need
#   tools/setup.sh --browser    a browser as well, for tests/apps/page_test.py
set -euo pipefail

packages=(
  g++ cmake ninja-build ccache make pkg-config git python3
  libtorch-dev libgloo-dev libopenblas0-openmp libhwy-dev libpng-dev libssl-dev libsodium-dev libfmt-dev libcli11-dev
  libtomlplusplus-dev nlohmann-json3-dev libprotobuf-dev protobuf-compiler libgrpc++-dev prometheus-cpp-dev libcpp-httplib-dev
  libeigen3-dev liblapacke-dev libdlib-dev libgtest-dev libgmock-dev libbenchmark-dev libboost-filesystem-dev clang-format-14
  python3-torch python3-torchvision
)
case "${1-}" in
  "") ;;
  --browser) packages+=(chromium chromium-driver python3-selenium) ;;
  *) echo "setup: got \"$1\", expected --browser or nothing" >&2; exit 2 ;;
esac

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing+=("$package")
done

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

if [ "${#missing[@]}" -gt 0 ]; then
  command -v apt-get >/dev/null || { echo "setup: needs Debian's apt-get; install by hand: ${missing[*]}" >&2; exit 2; }
  echo "setup: installing ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# The pthread build of OpenBLAS, which a dependency may bring, shares its threads between master and worker.
for library in libblas.so.3 liblapack.so.3 libopenblas.so.0; do
  link="$library-$(uname -m)-linux-gnu"
  openmp=$(update-alternatives --list "$link" 2>/dev/null | grep openblas-openmp || true)
  if [ -n "$openmp" ] && [ "$(readlink -f "/etc/alternatives/$link")" != "$(readlink -f "$openmp")" ]; then
    as_root update-alternatives --quiet --set "$link" "$openmp"
  fi
done
