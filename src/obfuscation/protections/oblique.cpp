#include <cmath>
#include <utility>

#include "obfuscation/protections/rotated.h"

namespace tempo::obfuscation {
namespace {

constexpr uint32_t kObliqueBlock = 16;
/// Two rounds that mix, and one that permutes and scales. A worker could undo blocks that were mixed last.
constexpr int kObliqueRounds = 3;
/// Scales are log-uniform in [1/2, 2], so their mean square, and that of their reciprocals, is 1.352 for each round.
constexpr double kSpreadOfRound = 1.352;

/// Rows are mixed as under `rotated`. Channels are mixed by keys that are not orthogonal, so that neither singular
/// values nor singular vectors of a weight show under which keys it was sent before.
class Oblique final : public Rotated {
 public:
  using Rotated::Rotated;

  [[nodiscard]] Key channel_key(Csprng& random, uint32_t size) const override {
    Key key{.size = size, .rounds = {}, .orthogonal = false};
    for (int i = 0; i < kObliqueRounds; ++i) {
      KeyRound round{.source = random.permutation(size),
                     .scale = std::vector<float>(size),
                     .block = i + 1 < kObliqueRounds ? kObliqueBlock : 1};
      for (float& scale : round.scale) {
        const double magnitude = std::exp2(2.0 * random.uniform() - 1.0);
        scale = static_cast<float>(random.coin() ? magnitude : -magnitude);
      }
      key.rounds.push_back(std::move(round));
    }
    return key;
  }
  [[nodiscard]] bool is_orthogonal() const override { return false; }
  [[nodiscard]] int channel_rounds() const override { return kObliqueRounds; }
  [[nodiscard]] bool mixes_positions() const override { return true; }
  [[nodiscard]] Reuse default_reuse() const override { return Reuse::kSplit; }
  [[nodiscard]] double key_spread() const override { return std::pow(kSpreadOfRound, kObliqueRounds); }
  [[nodiscard]] std::string_view leak() const override {
    return "Norms of operands up to a factor, how X, Y and dY of a step correlate, and the rank of each.";
  }
};

}  // namespace

std::unique_ptr<const Protection> make_oblique(const BlindingOptions& options) {
  return std::make_unique<Oblique>(options);
}

}  // namespace tempo::obfuscation
