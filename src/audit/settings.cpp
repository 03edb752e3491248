// The ways of running Tempo that an audit compares.
#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "audit/audit.h"
#include "obfuscation/protection.h"
#include "train/config.h"

namespace tempo::audit {
namespace {

std::string tile_name(int64_t tile) { return tile == 0 ? "full" : fmt::format("{}", tile); }

Setting make(std::string name, const char* protection, Coefficients coefficients, Reuse reuse, WeightPlacement weights,
             int64_t tile) {
  Setting setting;
  setting.name = std::move(name);
  setting.blinding.protection = protection;
  setting.blinding.coefficients = coefficients;
  setting.blinding.reuse = reuse;
  setting.blinding.weights = weights;
  setting.blinding.conv_tile = tile;
  return setting;
}

Setting none(int64_t tile) {
  return make(fmt::format("none, tile {}", tile_name(tile)), "none", Coefficients::kSignedReal, Reuse::kFull,
              WeightPlacement::kReturned, tile);
}
Setting permuted(Coefficients coefficients, Reuse reuse, int64_t tile) {
  const char* scales = coefficients == Coefficients::kPositiveInteger ? "integer" : "signed";
  return make(fmt::format("permuted {}, reuse {}, tile {}", scales, train::to_string(reuse), tile_name(tile)),
              "permuted", coefficients, reuse, WeightPlacement::kReturned, tile);
}
/// The same with operands rounded to bf16 on their way.
Setting on_narrow_wire(Setting setting) {
  setting.name += ", bf16";
  setting.blinding.wire = WirePrecision::kBFloat16;
  return setting;
}
Setting rotated(WeightPlacement weights, int64_t tile, double decoys) {
  std::string name = fmt::format("rotated {}, tile {}", train::to_string(weights), tile_name(tile));
  if (decoys > 0) name += fmt::format(", decoys {}", decoys);
  Setting setting = make(std::move(name), "rotated", Coefficients::kSignedReal, Reuse::kFull, weights, tile);
  setting.blinding.decoys = decoys;
  return setting;
}

/// Weights always return under keys that are not orthogonal.
Setting oblique(Reuse reuse, int64_t tile, double decoys) {
  std::string name = reuse == Reuse::kSplit ? "oblique" : fmt::format("oblique, reuse {}", train::to_string(reuse));
  name += fmt::format(", tile {}", tile_name(tile));
  if (decoys > 0) name += fmt::format(", decoys {}", decoys);
  Setting setting =
      make(std::move(name), "oblique", Coefficients::kSignedReal, reuse, WeightPlacement::kReturned, tile);
  setting.blinding.decoys = decoys;
  return setting;
}

}  // namespace

Setting default_setting() {
  RunConfig config;
  train::resolve(config);
  Setting setting;
  setting.blinding = config.blinding;
  setting.name = fmt::format("{}, tile {}", setting.blinding.protection, tile_name(setting.blinding.conv_tile));
  if (setting.blinding.decoys > 0) setting.name += fmt::format(", decoys {}", setting.blinding.decoys);
  return setting;
}

std::vector<Setting> standard_settings() {
  std::vector<Setting> settings;
  constexpr int64_t kTiles[] = {1, 4, 0};
  for (const int64_t tile : kTiles) settings.push_back(none(tile));
  for (const Coefficients coefficients : {Coefficients::kPositiveInteger, Coefficients::kSignedReal}) {
    for (const Reuse reuse : {Reuse::kFull, Reuse::kFresh, Reuse::kNone})
      settings.push_back(permuted(coefficients, reuse, 4));
    for (const int64_t tile : {1, 0}) settings.push_back(permuted(coefficients, Reuse::kFull, tile));
  }
  settings.push_back(permuted(Coefficients::kSignedReal, Reuse::kNone, 1));
  for (const int64_t tile : kTiles)
    settings.push_back(on_narrow_wire(permuted(Coefficients::kSignedReal, Reuse::kFull, tile)));
  constexpr WeightPlacement kWeights[] = {WeightPlacement::kResident, WeightPlacement::kReturned};
  for (const WeightPlacement weights : kWeights)
    for (const int64_t tile : kTiles) settings.push_back(rotated(weights, tile, 0));
  constexpr double kDecoys = 3;
  for (const WeightPlacement weights : kWeights) settings.push_back(rotated(weights, 1, kDecoys));
  settings.push_back(rotated(WeightPlacement::kResident, 4, kDecoys));
  settings.push_back(default_setting());
  for (const Reuse reuse : {Reuse::kSplit, Reuse::kFull}) settings.push_back(oblique(reuse, 1, kDecoys));
  return settings;
}

std::vector<Setting> quick_settings() {
  return {none(4), permuted(Coefficients::kPositiveInteger, Reuse::kFull, 4),
          permuted(Coefficients::kSignedReal, Reuse::kNone, 4), default_setting()};
}

std::string flags_of(const Setting& setting) {
  const BlindingOptions& b = setting.blinding;
  std::string flags = fmt::format("--protection {}", b.protection);
  const auto protection = obfuscation::make_protection(b);
  const std::vector<std::string_view> read = protection->settings();
  const auto reads = [&](std::string_view setting) {
    return std::find(read.begin(), read.end(), setting) != read.end();
  };
  if (reads("coefficients")) flags += fmt::format(" --coefficients {}", train::to_string(b.coefficients));
  flags += fmt::format(" --reuse {} --weights {} --conv-tile {}", train::to_string(b.reuse),
                       train::to_string(b.weights), tile_name(b.conv_tile));
  if (reads("row-rounds") && b.row_rounds > 0) flags += fmt::format(" --row-rounds {}", b.row_rounds);
  if (reads("row-group") && b.row_group > 0) flags += fmt::format(" --row-group {}", b.row_group);
  if (reads("decoys")) flags += fmt::format(" --decoys {}", b.decoys);
  if (b.wire == WirePrecision::kBFloat16) flags += " --wire bf16";
  if (b.weights == WeightPlacement::kResident) flags += fmt::format(" --rekey-interval {}", b.rekey_interval);
  if (!protection->protects()) flags += " --allow-unprotected";
  return flags;
}

}  // namespace tempo::audit
