/// What the tensors of a product are like on the wire, whatever its keys: cuts, shapes, panels, decoys.
#pragma once

#include <cstddef>
#include <cstdint>

#include "offload/contraction.h"
#include "offload/decoys.h"

namespace tempo::offload {

class Session;

/// Shape of a weight [out, kernel_h, kernel_w, in] and how its kernel slides over an image. A linear layer is a
/// pointwise convolution over images of one pixel.
struct ProductGeometry {
  int64_t in = 0, out = 0;
  int64_t kernel_h = 1, kernel_w = 1;
  int64_t stride = 1, padding = 0, dilation = 1;
};

/// Shape of an activation, [images, height, width, in], channels last.
struct ImageShape {
  int64_t images = 0, height = 1, width = 1;
};

/// Shapes of a product of two activations: x [batch, n, d], w [batch, d, m], y [batch, n, m].
struct BatchShape {
  int64_t batch = 0, n = 0, d = 0, m = 0;
};

/// What a call has in common whatever its keys: cuts, shapes on the wire, decoys.
struct ProductLayout {
  Side x, w, y;
  size_t items = 1;                        ///< products of a batch, each with keys of its own
  int64_t rows = 0, inner = 0, outer = 0;  ///< sizes of the keys
  Product product;
  ElementType type = ElementType::kFloat32;  ///< in the TEE
  DecoyPlan decoys;
  double flops = 0;
  ImageShape images;
  BatchShape batch;

  [[nodiscard]] const Side& side(Role role) const {
    if (role == Role::kX || role == Role::kInputGradient) return x;
    return role == Role::kY || role == Role::kOutputGradient ? y : w;
  }
};

/// The cut of a weight [out, kernel_h, kernel_w, in] as the session's keys act on it.
obfuscation::TileGeometry weight_cut(const Session& session, const ProductGeometry& geometry);
/// The layout of a product of an activation and a weight.
/// @param type in the TEE.
ProductLayout layout_of(const Session& session, const ProductGeometry& geometry, const ImageShape& shape,
                        ElementType type);
/// The layout of a product of two activations.
ProductLayout layout_of(const Session& session, const BatchShape& shape, ElementType type);

}  // namespace tempo::offload
