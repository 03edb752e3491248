/// What is made or taken of a tensor in the same pass as it is blinded or un-blinded. One struct goes from the layers
/// to the kernels; `supports` is the one question whether keys allow it.
#pragma once

#include <cstdint>
#include <vector>

#include "obfuscation/key.h"
#include "obfuscation/tile_geometry.h"
#include "tempo/worker.h"

namespace tempo::obfuscation {

/// Computes the operand that is blinded in place of x: y = x * scale + offset, channel by channel, and zero where y is
/// negative if `relu`. So the activation after a norm is never in memory as a whole.
struct ChannelAffine {
  std::vector<float> scale, offset;  ///< [channels]
  bool relu = false;
};

/// Inner products of each pixel's channels with a few vectors, and each pixel's sum of squares: what verification
/// needs. Memory is of the tensor's element type.
struct PixelProducts {
  static constexpr int64_t kMost = 2;
  int64_t count = 0;              ///< number of vectors, at most kMost; 0: nothing is computed
  const void* vectors = nullptr;  ///< [count, channels]
  /// Receives [count + 1, pixels of x]; the last plane has the sums of squares. Pixels that no tile covers are not
  /// written.
  void* planes = nullptr;
  /// Allowed with one vector, while blinding: column_sums[c] = sum over pixels of weights[pixel] * x[pixel, c]. Or
  /// nullptr.
  const void* weights = nullptr;
  double* column_sums = nullptr;  ///< [channels]
};

/// Sums of (x - shift) and of its square over all pixels: what batch norm needs of a product's result.
struct PixelMoments {
  const void* shift = nullptr;  ///< [channels], of the tensor's element type
  double* sums = nullptr;       ///< [channels]; or nullptr: nothing is computed
  double* squares = nullptr;
};

struct Taps {
  const ChannelAffine* map = nullptr;  ///< only while blinding; real images only, not decoys
  PixelProducts products = {};         ///< of what is blinded, without decoys; or of what is un-blinded
  PixelMoments moments = {};           ///< only while un-blinding, and without an addend
  const void* addend = nullptr;        ///< only while un-blinding: has the shape of x, and is added after the rest
};

/// How a plain tensor and its blinded operand belong together.
struct Blinding {
  TileGeometry geometry;
  KeyUse rows;      ///< acts on the rows of the cut (size geometry.rows())
  KeyUse channels;  ///< acts on the channels of each position, or of all (size geometry.key_channels())
  contract::ElementType wire = contract::ElementType::kFloat32;  ///< type of x, or bfloat16 if x is float32
  int64_t decoy_images = 0;                                      ///< the last images of the geometry: not part of x
  contract::PanelLayout panels = {};  ///< of the blinded operand; its width divides the channels
};

/// Whether the taps can be had under these keys and this cut. Nothing can be taken or added if a key mixes, the channel
/// key has not exactly one round or the operand lies in panels; moments need tiles that share no pixel, an addend needs
/// every pixel to be a row. A map is always possible.
bool supports(const Taps& taps, const Blinding& how);

}  // namespace tempo::obfuscation
