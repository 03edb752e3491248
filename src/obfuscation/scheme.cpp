#include "obfuscation/scheme.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tempo/error.h"

namespace tempo {

void validate(const BlindingOptions& options) {
  const auto check_range = [](const char* name, int64_t value, int64_t low, int64_t high) {
    if (value < low || value > high)
      throw InputError(fmt::format("{}: got {}, expected {} to {}", name, value, low, high));
  };
  check_range("conv-tile", options.conv_tile, 0, 1024);
  check_range("row-rounds", options.row_rounds, 0, 8);
  check_range("slices", options.slices, 0, 64);
  check_range("rekey-interval", options.rekey_interval, 1, int64_t{1} << 31);
  if (!(options.decoys >= 0 && options.decoys <= 100))
    throw InputError(fmt::format("decoys: got {}, expected 0 to 100", options.decoys));
  if (options.weights == WeightPlacement::kReturned) return;
  if (options.protection == Protection::kPermuted)
    throw InputError(
        "weights=resident with protection=permuted: updates on the worker need orthogonal keys; expected "
        "protection=rotated, or weights=returned");
  if (options.reuse != Reuse::kFull)
    throw InputError(
        "weights=resident without reuse=full: a gradient must arrive under the very keys of its weight; expected "
        "reuse=full, or weights=returned");
}

}  // namespace tempo

namespace tempo::obfuscation {
namespace {

constexpr uint32_t kRowBlock = 256, kChannelBlock = 16;
constexpr int kRotatedChannelRounds = 2;
/// After a single round, rows in the smallest blocks of a ragged end would be mixed with few others, and the last with
/// none.
constexpr int kLeastRowRounds = 2;
constexpr uint32_t kLargestCoefficient = 16;

class NoProtection final : public Scheme {
 public:
  [[nodiscard]] bool is_orthogonal() const override { return true; }
  [[nodiscard]] Key row_key(Csprng&, uint32_t size) const override { return {.size = size, .rounds = {}}; }
  [[nodiscard]] Key channel_key(Csprng&, uint32_t size) const override { return {.size = size, .rounds = {}}; }
};

/// The paper's scheme: a permutation times a diagonal on every dimension.
class Permuted final : public Scheme {
 public:
  explicit Permuted(Coefficients coefficients) : coefficients_(coefficients) {}
  [[nodiscard]] bool is_orthogonal() const override { return false; }
  [[nodiscard]] Key row_key(Csprng& random, uint32_t size) const override { return draw(random, size); }
  [[nodiscard]] Key channel_key(Csprng& random, uint32_t size) const override { return draw(random, size); }

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

/// Several rounds, each a permutation, random signs, and mixing of blocks by an orthonormal Hadamard matrix.
class Rotated final : public Scheme {
 public:
  explicit Rotated(const BlindingOptions& options) : options_(options) {}
  [[nodiscard]] bool is_orthogonal() const override { return true; }
  [[nodiscard]] Key row_key(Csprng& random, uint32_t size) const override {
    return draw(random, size, row_rounds(options_, size), kRowBlock);
  }
  [[nodiscard]] Key channel_key(Csprng& random, uint32_t size) const override {
    return draw(random, size, channel_rounds(options_), kChannelBlock);
  }

 private:
  static Key draw(Csprng& random, uint32_t size, int rounds, uint32_t block) {
    Key key{.size = size, .rounds = {}};
    for (int i = 0; i < rounds; ++i) {
      KeyRound round{.source = random.permutation(size), .scale = std::vector<float>(size), .block = block};
      uint32_t bits = 0;
      for (uint32_t j = 0; j < size; ++j) {
        if (j % 32 == 0) bits = random.next_u32();
        round.scale[j] = (bits >> (j % 32) & 1U) != 0 ? 1.0F : -1.0F;
      }
      key.rounds.push_back(std::move(round));
    }
    return key;
  }

  BlindingOptions options_;
};

}  // namespace

bool protects(const BlindingOptions& options) {
  switch (options.protection) {
    case Protection::kNone:
    case Protection::kPermuted:
      return false;
    case Protection::kRotated:
      return true;
  }
  return false;
}

int row_rounds(const BlindingOptions& options, uint64_t rows) {
  if (options.protection == Protection::kNone) return 0;
  if (options.protection == Protection::kPermuted) return 1;
  if (options.row_rounds > 0) return options.row_rounds;
  int rounds = 1;
  for (uint64_t mixed = kRowBlock; mixed < rows; mixed *= kRowBlock) ++rounds;
  return std::max(rounds, kLeastRowRounds);
}

int channel_rounds(const BlindingOptions& options) {
  if (options.protection == Protection::kNone) return 0;
  return options.protection == Protection::kPermuted ? 1 : kRotatedChannelRounds;
}

std::unique_ptr<Scheme> make_scheme(const BlindingOptions& options) {
  validate(options);
  switch (options.protection) {
    case Protection::kNone:
      return std::make_unique<NoProtection>();
    case Protection::kPermuted:
      return std::make_unique<Permuted>(options.coefficients);
    case Protection::kRotated:
      return std::make_unique<Rotated>(options);
  }
  throw InputError("protection: unknown scheme");
}

}  // namespace tempo::obfuscation
