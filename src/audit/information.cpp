#include "audit/information.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "obfuscation/protection.h"

namespace tempo::audit {
namespace {

constexpr int kBins = 16;

/// Bin of every value such that bins are about equally full; equal values share a bin.
std::vector<int> equal_bins(const std::vector<float>& values, size_t stride) {
  std::vector<float> some;
  for (size_t i = 0; i < values.size(); i += stride) some.push_back(values[i]);
  std::vector<float> sorted = some;
  std::sort(sorted.begin(), sorted.end());
  std::vector<int> bins;
  for (const float v : some) {
    const auto rank = std::lower_bound(sorted.begin(), sorted.end(), v) - sorted.begin();
    bins.push_back(static_cast<int>(rank * kBins / static_cast<std::ptrdiff_t>(sorted.size())));
  }
  return bins;
}

}  // namespace

double row_key_bits(const BlindingOptions& blinding, int64_t rows) {
  const auto protection = obfuscation::make_protection(blinding);
  return protection->key_bits(rows, protection->row_rounds(static_cast<uint64_t>(rows)));
}

double channel_key_bits(const BlindingOptions& blinding, int64_t channels) {
  const auto protection = obfuscation::make_protection(blinding);
  return protection->key_bits(channels, protection->channel_rounds());
}

double effective_count(const Matrix& orthogonal) {
  return static_cast<double>(orthogonal.cols()) / std::max(orthogonal.array().square().square().sum(), 1e-30);
}

double mutual_information_bits(const Operand& blinded, const Operand& plain) {
  constexpr size_t kSamples = 200'000;
  if (blinded.empty() || !blinded.same_shape(plain)) return 0;
  const size_t stride = blinded.values.size() / kSamples + 1;
  const std::vector<int> a = equal_bins(blinded.values, stride), b = equal_bins(plain.values, stride);
  std::array<std::array<double, kBins>, kBins> joint{};
  std::array<double, kBins> of_a{}, of_b{};
  const double n = static_cast<double>(a.size());
  for (size_t i = 0; i < a.size(); ++i) {
    joint[static_cast<size_t>(a[i])][static_cast<size_t>(b[i])] += 1 / n;
    of_a[static_cast<size_t>(a[i])] += 1 / n;
    of_b[static_cast<size_t>(b[i])] += 1 / n;
  }
  double nats = 0;
  int filled = 0, filled_a = 0, filled_b = 0;
  for (size_t i = 0; i < kBins; ++i) {
    filled_a += of_a[i] > 0;
    filled_b += of_b[i] > 0;
    for (size_t j = 0; j < kBins; ++j) {
      if (joint[i][j] <= 0) continue;
      ++filled;
      nats += joint[i][j] * std::log(joint[i][j] / (of_a[i] * of_b[j]));
    }
  }
  // Miller and Madow: every entropy is underestimated by (bins in use - 1) / 2n.
  nats += (filled_a + filled_b - filled - 1) / (2 * n);
  return std::max(nats, 0.0) / std::log(2.0);
}

}  // namespace tempo::audit
