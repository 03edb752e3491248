#include "obfuscation/protection.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "obfuscation/protections/built_in.h"
#include "tempo/error.h"

namespace tempo::obfuscation {
namespace {

struct Known {
  std::string name;
  MakeProtection make;
};

std::vector<Known> built_in() {
  return {{"none", make_none}, {"permuted", make_permuted}, {"rotated", make_rotated}, {"oblique", make_oblique}};
}

std::vector<Known>& known() {
  static std::vector<Known> all = built_in();
  return all;
}

std::unique_ptr<const Protection> find(const BlindingOptions& options) {
  for (const Known& entry : known())
    if (entry.name == options.protection) return entry.make(options);
  throw InputError(
      fmt::format("protection: got \"{}\", expected {}", options.protection, fmt::join(protection_names(), "|")));
}

void check_ranges(const BlindingOptions& options) {
  const auto check_range = [](const char* name, int64_t value, int64_t low, int64_t high) {
    if (value < low || value > high)
      throw InputError(fmt::format("{}: got {}, expected {} to {}", name, value, low, high));
  };
  check_range("conv-tile", options.conv_tile, 0, 1024);
  check_range("row-rounds", options.row_rounds, 0, 8);
  if (options.row_group != 0) check_range("row-group", options.row_group, 1024, 32'768);
  if (options.row_group % 256 != 0)
    throw InputError(fmt::format("row-group: got {}, expected a multiple of 256, or all", options.row_group));
  check_range("slices", options.slices, 0, 64);
  check_range("rekey-interval", options.rekey_interval, 1, int64_t{1} << 31);
  if (!(options.decoys >= 0 && options.decoys <= 100))
    throw InputError(fmt::format("decoys: got {}, expected 0 to 100", options.decoys));
}

}  // namespace

void Protection::check(const BlindingOptions& options) const {
  if (options.weights == WeightPlacement::kReturned) return;
  if (!is_orthogonal())
    throw InputError(
        fmt::format("weights=resident with protection={}: updates on the worker need orthogonal keys; expected "
                    "protection=rotated, or weights=returned",
                    options.protection));
  if (options.reuse != Reuse::kFull)
    throw InputError(
        "weights=resident without reuse=full: a gradient must arrive under the very keys of its weight; expected "
        "reuse=full, or weights=returned");
}

void Protection::split(const ConstPlainTensor&, int64_t, Csprng&, const std::vector<PlainTensor>& parts) const {
  throw InputError(fmt::format("protection: {} parts of an operand that is not split, expected one", parts.size()));
}

RegisteredProtection::RegisteredProtection(std::string name, MakeProtection make) : name_(std::move(name)) {
  const std::vector<std::string> names = protection_names();
  if (std::find(names.begin(), names.end(), name_) != names.end())
    throw InputError(fmt::format("protection: \"{}\" is registered already, expected another name", name_));
  known().push_back({name_, std::move(make)});
}

RegisteredProtection::~RegisteredProtection() {
  std::erase_if(known(), [this](const Known& entry) { return entry.name == name_; });
}

std::vector<std::string> protection_names() {
  std::vector<std::string> names;
  for (const Known& entry : known()) names.push_back(entry.name);
  return names;
}

std::unique_ptr<const Protection> make_protection(const BlindingOptions& options) {
  check_ranges(options);
  std::unique_ptr<const Protection> made = find(options);
  made->check(options);
  const contract::PanelLayout panels = made->wire_panels();
  if (panels.is_set() && made->fits_taps())
    throw InputError(fmt::format("protection \"{}\": panels of operands of which figures are taken, expected rows",
                                 options.protection));
  try {
    contract::check_panels({.shape = {1, panels.width}, .panels = panels});
  } catch (const ProtocolError& error) {
    throw InputError(fmt::format("protection \"{}\": {}", options.protection, error.what()));
  }
  return made;
}

bool protects(const BlindingOptions& options) { return find(options)->protects(); }

std::vector<uint32_t> permutation_within_groups(Csprng& random, const Key& key) {
  std::vector<uint32_t> all;
  all.reserve(key.size);
  for (uint32_t g = 0; g < key.groups(); ++g)
    for (const uint32_t source : random.permutation(key.group_end(g) - key.group_begin(g)))
      all.push_back(key.group_begin(g) + source);
  return all;
}

double permutation_bits(int64_t size) { return std::lgamma(static_cast<double>(size) + 1) / std::log(2.0); }

}  // namespace tempo::obfuscation

namespace tempo {

void validate(const BlindingOptions& options) { obfuscation::make_protection(options); }

}  // namespace tempo
