/// A small residual network on made-up pictures, blinded layer by layer by the real schemes: a victim for attacks that
/// put layers together.
#pragma once

#include <cstdint>
#include <vector>

#include "audit/case.h"
#include "tempo/options.h"

namespace tempo::audit::testing {

inline constexpr BlindingOptions kSigned{.protection = "permuted", .coefficients = Coefficients::kSignedReal};
inline constexpr BlindingOptions kInteger{.protection = "permuted", .coefficients = Coefficients::kPositiveInteger};
inline constexpr BlindingOptions kRotated{.protection = "rotated"};

struct SmallNetworkOptions {
  int64_t images = 8, side = 16;
  int64_t tile = 1;  ///< outputs a side of a tile; 0: whole images
  uint64_t seed = 1;
};

/// A first layer of 3 to 8 channels that stays in the TEE, then three offloaded 3x3 convolutions: 8 to 10, 10 to 12
/// with the block's input added behind it, 12 to 6. Every case has X, W and Y of one step; `next`, `previous` and the
/// pictures are set, other pictures are known.
class SmallNetwork {
 public:
  SmallNetwork(const SmallNetworkOptions& options, const BlindingOptions& blinding);
  SmallNetwork(const SmallNetwork&) = delete;
  SmallNetwork& operator=(const SmallNetwork&) = delete;

  [[nodiscard]] LayerCase& layer(size_t index) { return layers_[index]; }

 private:
  std::vector<LayerCase> layers_;
};

}  // namespace tempo::audit::testing
