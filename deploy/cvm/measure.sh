#!/usr/bin/env bash
# The values that a client's policy pins, from what build.sh left in OUT and from the firmware. No TEE is needed.
#
# usage: measure.sh snp OUT OVMF CPUS CPU FEATURES    sev-snp-measure; CPU: QEMU's -cpu, e.g. EPYC-v4; FEATURES: 0x1 or
#                                                     0x21, SEV_FEATURES as the host's KVM sets them (README.md)
#        measure.sh tdx OUT OVMF CPUS MEMORY ACPI     tdx-measure; MEMORY: e.g. 16G; ACPI: a folder with acpi_tables.bin,
#                                                     rsdp.bin and table_loader.bin of that machine
set -euo pipefail
usage() { sed -n '4,7s/^# \{0,1\}//p' "$0"; exit 2; }
[ $# -eq 6 ] || usage
kind=$1 out=$(realpath "$2") ovmf=$(realpath "$3") cpus=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

snp() {
  # The UKI is the kernel; its own initrd and command line are inside. QEMU is started without -initrd and -append, and
  # hashes both as empty: anything the host appends gives another measurement.
  local digest
  digest=$(sev-snp-measure --mode snp --vmm-type QEMU --vcpus "$cpus" --vcpu-type "$1" --guest-features "$2" \
    --ovmf "$ovmf" --kernel "$out/tempo-master.efi")
  grep -qx '[0-9a-f]\{96\}' <<<"$digest" || { echo "measure: got \"$digest\", expected 96 hex digits"; exit 1; }
  echo "sev-snp measurements: $digest"
}

tdx() {
  # The parts of the UKI, as -kernel, -initrd and -append: the chain that tdx-measure knows.
  local acpi
  acpi=$(realpath "$2")
  jq -n --argjson cpus "$cpus" --arg memory "$1" --arg bios "$ovmf" --arg acpi "$acpi" --arg out "$out" \
    --arg cmdline "$(tr -d '\0\n' <"$out/cmdline")" '{
      boot_config: {cpus: $cpus, memory: $memory, bios: $bios, acpi_tables: "\($acpi)/acpi_tables.bin",
                    rsdp: "\($acpi)/rsdp.bin", table_loader: "\($acpi)/table_loader.bin"},
      direct: {kernel: "\($out)/linux", initrd: "\($out)/initrd", cmdline: $cmdline}}' >"$work/metadata.json"
  tdx-measure --json --json-file "$work/measured.json" "$work/metadata.json" >/dev/null
  jq -r '"tdx mrtd: \(.mrtd)", "tdx rtmr0: \(.rtmr0)", "tdx rtmr1: \(.rtmr1)", "tdx rtmr2: \(.rtmr2)"' \
    "$work/measured.json"
  echo "tdx rtmr3: leave it out, so it must be zero (nothing extends it)"
}

case $kind in
  snp | tdx) "$kind" "$5" "$6" ;;
  *) usage ;;
esac
