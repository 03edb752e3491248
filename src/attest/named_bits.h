/// Names of single bits in reports, as policies write them.
#pragma once

#include <array>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

namespace tempo::attest {

struct NamedBit {
  std::string_view name;
  uint64_t bit;
};

// The guest policy (AMD 56860, "Guest policy"): what a guest allows its machine to do.
constexpr uint64_t kSnpPolicyReservedOne = uint64_t{1} << 17U, kSnpPolicyDebug = uint64_t{1} << 19U;
constexpr uint64_t kSnpPolicyAbi = 0xFFFF;  // least major and minor version of the firmware's interface
/// Weaken the guest where set.
constexpr std::array<NamedBit, 3> kSnpWeakening = {
    {{"smt", uint64_t{1} << 16U}, {"migration-agent", uint64_t{1} << 18U}, {"cxl", uint64_t{1} << 21U}}};
/// Harden the guest where set.
constexpr std::array<NamedBit, 5> kSnpHardening = {{{"single-socket", uint64_t{1} << 20U},
                                                    {"aes-256-xts", uint64_t{1} << 22U},
                                                    {"rapl-disabled", uint64_t{1} << 23U},
                                                    {"ciphertext-hiding", uint64_t{1} << 24U},
                                                    {"page-swap-disabled", uint64_t{1} << 25U}}};
/// PLATFORM_INFO: how the machine is set up. `smt-disabled` is met where the bit is clear.
constexpr std::string_view kSmtDisabled = "smt-disabled";
constexpr uint64_t kSnpPlatformSmt = 1;
constexpr std::array<NamedBit, 5> kSnpPlatform = {{{"tsme", uint64_t{1} << 1U},
                                                   {"ecc", uint64_t{1} << 2U},
                                                   {"rapl-disabled", uint64_t{1} << 3U},
                                                   {"ciphertext-hiding", uint64_t{1} << 4U},
                                                   {"alias-check", uint64_t{1} << 5U}}};

// TD_ATTRIBUTES (Intel TDX module specification): the low byte makes a TD debuggable, and is never allowed.
constexpr uint64_t kTdDebug = 0xFF;
/// Met by a set bit; a policy must allow the TD to be without it ("sept-ve").
constexpr uint64_t kTdSeptVeDisable = uint64_t{1} << 28U;
constexpr std::string_view kSeptVe = "sept-ve";
constexpr std::array<NamedBit, 5> kTdAllowable = {{{"lass", uint64_t{1} << 27U},
                                                   {"migratable", uint64_t{1} << 29U},
                                                   {"pks", uint64_t{1} << 30U},
                                                   {"key-locker", uint64_t{1} << 31U},
                                                   {"perfmon", uint64_t{1} << 63U}}};

// SGX ATTRIBUTES (Intel SDM, volume 3D).
constexpr uint64_t kSgxInit = 1, kSgxDebug = 2, kSgxMode64 = 4;
constexpr std::array<NamedBit, 5> kSgxAllowable = {
    {{"provision-key", 0x10}, {"einit-token-key", 0x20}, {"cet", 0x40}, {"kss", 0x80}, {"aex-notify", 0x400}}};

template <typename Bits>
std::set<std::string> names_in(const Bits& bits, uint64_t value) {
  std::set<std::string> names;
  for (const NamedBit& bit : bits)
    if ((value & bit.bit) != 0) names.emplace(bit.name);
  return names;
}

}  // namespace tempo::attest
