#include <cmath>
#include <utility>

#include "obfuscation/protections/rotated.h"

namespace tempo::obfuscation {
namespace {

constexpr uint32_t kObliqueBlock = 16;
/// One round has scales, and two rounds of signs alone lie on either side of it. Products of what is sent would show
/// unequal scales through fewer rounds (attack 28 of tempo-audit).
constexpr int kObliqueRounds = 5, kScaledRound = 2;
/// Scales are log-uniform in [1/4, 4]: the root mean square of those and of their reciprocals is that of 2.87.
constexpr double kObliqueSpread = 2.9;

/// Three more rounds over channels, and rows that are put together from tiles: 1.0 to 1.4 by `tempo-bench kernels`.
constexpr double kCostOverRotated = 1.25;

/// Rows are mixed as under `rotated`. Channels are mixed by keys that are not orthogonal, so that neither singular
/// values nor singular vectors of a weight show under which keys it was sent before.
class Oblique final : public Rotated {
 public:
  using Rotated::Rotated;

  [[nodiscard]] Key channel_key(Csprng& random, uint32_t size) const override {
    Key key{.size = size, .rounds = {}, .orthogonal = false};
    for (int i = 0; i < kObliqueRounds; ++i) {
      KeyRound round{.source = random.permutation(size), .scale = std::vector<float>(size), .block = kObliqueBlock};
      for (float& scale : round.scale) {
        const double magnitude = i == kScaledRound ? std::exp2(4.0 * random.uniform() - 2.0) : 1.0;
        scale = static_cast<float>(random.coin() ? magnitude : -magnitude);
      }
      key.rounds.push_back(std::move(round));
    }
    return key;
  }
  [[nodiscard]] bool is_orthogonal() const override { return false; }
  [[nodiscard]] int channel_rounds() const override { return kObliqueRounds; }
  [[nodiscard]] bool mixes_positions() const override { return true; }
  /// Keys hold for one pass, so there is nothing to pool that decoys would hide. White noise would show keys' scales.
  [[nodiscard]] double default_decoys() const override { return 0; }
  [[nodiscard]] Reuse default_reuse() const override { return Reuse::kSplit; }
  [[nodiscard]] double key_spread() const override { return kObliqueSpread; }
  [[nodiscard]] double seconds_per_element(const BlindingRates& rates, uint64_t rows) const override {
    return kCostOverRotated * Rotated::seconds_per_element(rates, rows);
  }
  [[nodiscard]] std::string_view leak() const override {
    return "Norms of operands up to a factor, how X, Y and dY of a step correlate, and the rank of each.";
  }
};

}  // namespace

std::unique_ptr<const Protection> make_oblique(const BlindingOptions& options) {
  return std::make_unique<Oblique>(options);
}

}  // namespace tempo::obfuscation
