#include <cmath>
#include <utility>

#include "obfuscation/protections/built_in.h"

namespace tempo::obfuscation {
namespace {

constexpr uint32_t kLargestCoefficient = 16;
constexpr double kCoefficientBits = 4;  // 1..16
constexpr double kSignedRealBits = 24;  // a sign and a mantissa
/// 3.04 for 1..16, 2.87 for log-uniform in [1/4, 4].
constexpr double kSpreadOfScales = 3.1;

class Permuted final : public Protection {
 public:
  explicit Permuted(Coefficients coefficients) : coefficients_(coefficients) {}

  [[nodiscard]] Key row_key(Csprng& random, uint32_t size) const override { return draw(random, size); }
  [[nodiscard]] Key channel_key(Csprng& random, uint32_t size) const override { return draw(random, size); }
  [[nodiscard]] bool is_orthogonal() const override { return false; }
  [[nodiscard]] int row_rounds(uint64_t) const override { return 1; }
  [[nodiscard]] int channel_rounds() const override { return 1; }
  [[nodiscard]] bool fits_taps() const override { return true; }
  [[nodiscard]] double key_spread() const override { return kSpreadOfScales; }
  [[nodiscard]] bool protects() const override { return false; }
  [[nodiscard]] std::string_view leak() const override {
    return "A worker recovers every weight and image from the operands of one step.";
  }
  [[nodiscard]] double key_bits(int64_t size, int) const override {
    const double scale = coefficients_ == Coefficients::kPositiveInteger ? kCoefficientBits : kSignedRealBits;
    return permutation_bits(size) + scale * static_cast<double>(size);
  }
  [[nodiscard]] std::vector<std::string_view> settings() const override { return {"coefficients"}; }

 private:
  [[nodiscard]] float coefficient(Csprng& random) const {
    if (coefficients_ == Coefficients::kPositiveInteger)
      return static_cast<float>(1 + random.below(kLargestCoefficient));
    const double magnitude = std::exp2(4.0 * random.uniform() - 2.0);  // log-uniform in [1/4, 4]
    return static_cast<float>(random.coin() ? magnitude : -magnitude);
  }
  [[nodiscard]] Key draw(Csprng& random, uint32_t size) const {
    KeyRound round{.source = random.permutation(size), .scale = std::vector<float>(size), .block = 1};
    for (float& scale : round.scale) scale = coefficient(random);
    Key key{.size = size, .rounds = {}, .orthogonal = false};
    key.rounds.push_back(std::move(round));
    return key;
  }

  Coefficients coefficients_;
};

}  // namespace

std::unique_ptr<const Protection> make_permuted(const BlindingOptions& options) {
  return std::make_unique<Permuted>(options.coefficients);
}

}  // namespace tempo::obfuscation
