#!/usr/bin/env bash
# Validates everything in deploy/ without a cluster or a running systemd; README.md there says what that covers.
#
# usage: validate.sh [--self-test]    --self-test: also breaks copies of the files, each of which must be refused
#
# Kubernetes: needs node and npm, which download about 50 MiB once, into build/deploy-validate (ignored by git).
# systemd: needs systemd-analyze. What is missing is said, and the exit code is then 1.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
tools=$top/build/deploy-validate
packages=(kubernetes-models@5.1.0 typescript@5.9.3 yaml@2.8.1)
failures=0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() { echo "FAILED: $*"; failures=$((failures + 1)); }

kubernetes_tools() {
  command -v node >/dev/null && command -v npm >/dev/null || return 1
  [ "$(cat "$tools/installed" 2>/dev/null)" = "${packages[*]}" ] && return
  mkdir -p "$tools"
  echo '{"private": true}' >"$tools/package.json"
  npm install --prefix "$tools" --ignore-scripts --no-audit --no-fund --loglevel error "${packages[@]}" >/dev/null
  echo "${packages[*]}" >"$tools/installed"
}

# kubernetes FOLDER: every manifest of it, strictly.
kubernetes() { node "$here/validate_kubernetes.mjs" "$tools" "$1"/*.yaml; }

# unit NAME FILE [DROP-IN]: FILE as systemd reads it as NAME, in a root of its own with stand-ins for the programs it names.
unit() {
  local name=$1 root=$scratch/root
  rm -rf "$root"
  mkdir -p "$root/etc/systemd/system/$name.d" "$root/usr/local/bin" "$root/usr/bin"
  cp -r /usr/lib/systemd/system "$root/etc/systemd/" 2>/dev/null || true
  install -m 0755 /dev/null "$root/usr/local/bin/tempo-worker"
  install -m 0755 /dev/null "$root/usr/local/bin/tempo"
  install -m 0755 /dev/null "$root/usr/bin/install"
  cp "$2" "$root/etc/systemd/system/$name"
  [ $# -lt 3 ] || cp "$3" "$root/etc/systemd/system/$name.d/drop-in.conf"
  local said
  # It exits 0 after a warning about an unknown setting: any word about our unit counts.
  said=$(systemd-analyze verify --man=no --recursive-errors=no --root="$root" "$name" 2>&1) || {
    echo "$said"
    return 1
  }
  if grep -q "${name%.service}" <<<"$said"; then
    grep "${name%.service}" <<<"$said"
    return 1
  fi
}

# refused WHAT COMMAND...: COMMAND must fail.
refused() {
  local what=$1 said
  shift
  if said=$("$@" 2>&1); then
    fail "self-test: $what was not noticed"
  else
    echo "self-test: $what is refused: $(grep -m1 -v '^$' <<<"$said")"
  fi
}

# broken FILE SED: a copy of deploy/kubernetes with one file changed.
broken() {
  rm -rf "$scratch/broken"
  cp -r "$here/kubernetes" "$scratch/broken"
  sed -i "$2" "$scratch/broken/$1"
  cmp -s "$here/kubernetes/$1" "$scratch/broken/$1" && fail "self-test: \"$2\" changes nothing in $1"
  true
}

python3 "$top/tools/check_deploy.py" || fail "tools/check_deploy.py"

if kubernetes_tools; then
  kubernetes "$here/kubernetes" || fail "Kubernetes manifests"
else
  fail "Kubernetes manifests: not validated: node and npm are needed"
fi
if command -v kubectl >/dev/null; then
  kubectl kustomize "$here/kubernetes" >"$scratch/built.yaml" || fail "kustomization.yaml"
  echo "kustomization: $(grep -c '^kind:' "$scratch/built.yaml") manifests"
else
  echo "kustomization: not built: no kubectl"
fi

if command -v systemd-analyze >/dev/null; then
  systemd-analyze --version | head -n 1
  service=$here/systemd/tempo-worker.service
  master=$here/cvm/mkosi.extra/etc/systemd/system/tempo-serve.service
  if unit tempo-worker.service "$service"; then echo "unit: ok"; else fail "tempo-worker.service"; fi
  if unit tempo-worker.service "$service" "$service.d/gpu.conf.example"; then
    echo "unit with gpu.conf: ok"
  else
    fail "gpu.conf.example"
  fi
  if unit tempo-serve.service "$master"; then echo "unit of the master: ok"; else fail "tempo-serve.service"; fi
  for file in "$service" "$master"; do
    systemd-analyze security --offline=true --threshold=20 "$file" | tail -n 1 ||
      fail "systemd-analyze security: exposure above 2.0"
  done
else
  fail "units: not validated: systemd-analyze is needed"
fi

if command -v shellcheck >/dev/null; then
  if shellcheck "$here"/cvm/{build.sh,measure.sh,mkosi.postinst.chroot,mkosi.finalize}; then
    echo "scripts of the image: ok"
  else
    fail "shellcheck"
  fi
else
  echo "scripts of the image: not checked: no shellcheck"
fi

if [ "${1:-}" = --self-test ]; then
  broken statefulset.yaml 's/replicas: 2/replicas: 2\n  replica: 3/'
  refused "an unknown field (spec.replica)" kubernetes "$scratch/broken"
  broken statefulset.yaml 's/periodSeconds: 2$/periodSecond: 2/'
  refused "an unknown field, deep down (periodSecond)" kubernetes "$scratch/broken"
  broken statefulset.yaml 's/replicas: 2/replicas: "2"/'
  refused "a wrong type (replicas)" kubernetes "$scratch/broken"
  broken statefulset.yaml '/serviceName:/p'
  refused "a key given twice (serviceName)" kubernetes "$scratch/broken"
  broken networkpolicy.yaml 's/endPort: 60999/endPort: many/'
  refused "a wrong type (endPort)" kubernetes "$scratch/broken"
  broken service.yaml '/ports:/,$d'
  echo '  ports: [{name: grpc}]' >>"$scratch/broken/service.yaml"
  refused "a missing field (ports[0].port)" kubernetes "$scratch/broken"
  sed 's/^NoNewPrivileges/NoNewPriviliges/' "$here/systemd/tempo-worker.service" >"$scratch/typo.service"
  refused "an unknown setting of a unit" unit tempo-worker.service "$scratch/typo.service"
  sed 's/^RestartSec=2/RestartSec=soon/' "$here/systemd/tempo-worker.service" >"$scratch/value.service"
  refused "a bad value in a unit" unit tempo-worker.service "$scratch/value.service"
fi

if [ "$failures" -gt 0 ]; then
  echo "deploy: $failures failed"
  exit 1
fi
echo "deploy: ok"
