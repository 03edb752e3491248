/// The state of one call of a BlindedProduct. Only the files of BlindedProduct include it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "offload/blinded_product.h"
#include "offload/decoys.h"

namespace tempo::offload {

struct BlindedProduct::Call {
  ImageShape shape;
  DecoyPlan decoys;
  double input_energy = 0, output_gradient_energy = 0;  // squared norms of the real x and dy; set if there are decoys
  obfuscation::ConvTiling cut;                          // covers real images and decoys
  Product product;
  obfuscation::Pass pass;
  uint64_t call = 0;
  ElementType type = ElementType::kFloat32;
  ElementType wire = ElementType::kFloat32;
  double flops = 0;
  ProductKeys keys;
  Session::Slices slices;  // slices of the rows of x, dy, y and dx
  Operand x, w;            // `w` is empty with resident weights
  OperandId w_id = 0;
  obfuscation::PixelMap map;  // computes the operand of x, unless empty
  std::optional<CallVerifier> verifier;

  // Shape on the wire of an operand cut by `g`. A product of single positions is a matrix product whatever its kernel:
  // the kernel's taps become columns.
  [[nodiscard]] std::vector<int64_t> wire_shape(const obfuscation::TileGeometry& g) const {
    if (product.kind == ProductKind::kLinear) return {g.rows(), g.positions() * g.channels};
    return {g.rows(), g.tile_h, g.tile_w, g.channels};
  }
};

}  // namespace tempo::offload
