/// The table of blinding: which tensors a product and its gradients have, and how each key acts on each. Everything
/// that is sent or received follows from it. Equations and their origin: docs/blinding.md.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "obfuscation/key_ring.h"
#include "obfuscation/taps.h"
#include "offload/contract.h"
#include "offload/pool/operand_source.h"

namespace tempo::offload {

using obfuscation::Form;
using obfuscation::KeyRole;

/// The tensors of a product Y = X W and of its gradients.
enum class Role : uint8_t { kX, kW, kY, kOutputGradient, kInputGradient, kWeightGradient };

/// One product of the three: two operands are sent and a result comes back.
struct Contraction {
  const char* name;  ///< for messages
  Role first, second, result;
  uint64_t purpose;    ///< the part of a key's path that tells its keys from those of the others
  KeyRole fresh = {};  ///< the key that reuse=fresh draws anew: that of dY which the sum does not run over
};
inline constexpr Contraction kForward = {"forward", Role::kX, Role::kW, Role::kY, 0};
inline constexpr Contraction kInputGradient = {
    "input_gradient", Role::kOutputGradient, Role::kW, Role::kInputGradient, 1, KeyRole::kLeft};
inline constexpr Contraction kWeightGradient = {"weight_gradient",     Role::kX, Role::kOutputGradient,
                                                Role::kWeightGradient, 2,        KeyRole::kRight};

constexpr const Contraction& contraction_of(Role result) {
  return result == Role::kY ? kForward : result == Role::kInputGradient ? kInputGradient : kWeightGradient;
}

/// How a key acts on a tensor. Operands are gathered, results scattered:
///
///                      L (rows)           M (inputs)         R (outputs)
///   X                  direct             direct                                X~ = L X M
///   W                                     inverse-transpose  direct             W~ = M^-1 W R
///   Y                  inverse                               inverse            Y~ = L Y R
///   output gradient    inverse-transpose                     inverse-transpose  dY~ = L^-T dY R^-T
///   input gradient     transpose          transpose                             dX~ = L^-T dX M^-T
///   weight gradient                       inverse            transpose          dW~ = M^T dW R^-T
///
/// (W and dW are stored with one row for each output, so that M acts on their columns: its transpose.)
constexpr Form form_of(Role tensor, KeyRole key) {
  switch (tensor) {
    case Role::kX:
      return Form::kDirect;
    case Role::kW:
      return key == KeyRole::kInner ? Form::kInverseTranspose : Form::kDirect;
    case Role::kY:
      return Form::kInverse;
    case Role::kOutputGradient:
      return Form::kInverseTranspose;
    case Role::kInputGradient:
      return Form::kTranspose;
    case Role::kWeightGradient:
      return key == KeyRole::kInner ? Form::kInverse : Form::kTranspose;
  }
  return Form::kDirect;
}

/// The keys of one product.
struct ProductKeys {
  std::shared_ptr<const obfuscation::Key> left, inner, right;

  [[nodiscard]] const std::shared_ptr<const obfuscation::Key>& of(KeyRole role) const {
    return role == KeyRole::kLeft ? left : role == KeyRole::kInner ? inner : right;
  }
};

/// What a tensor of a product is like on the wire. X and dX are alike, and so are W and dW, and Y and dY.
struct Side {
  obfuscation::TileGeometry geometry;  ///< the cut of one item of the batch
  KeyRole rows = KeyRole::kLeft, channels = KeyRole::kInner;
  TensorSpec wire;  ///< of all items
  Spread spread = Spread::kRows;
};

/// The side of a weight [out, kernel_h, kernel_w, in]: one row for each output, one position for each tap, or one for
/// all if keys mix taps.
inline Side weight_side(const obfuscation::TileGeometry& cut, ElementType type) {
  std::vector<int64_t> shape = {cut.images, cut.height, cut.width, cut.channels};
  if (cut.mixes_positions) shape = {cut.images, cut.key_channels()};
  return {cut, KeyRole::kRight, KeyRole::kInner, {type, std::move(shape)}, Spread::kEverywhere};
}

/// A tensor of a product under its keys, one set of them for each item of a batch.
struct KeyedTensor {
  Role role = Role::kX;
  Side side;
  std::vector<ProductKeys> keys;
  int64_t decoy_images = 0;  ///< the last images of the cut are decoys

  [[nodiscard]] obfuscation::Blinding blinding(size_t item) const {
    const ProductKeys& set = keys[item];
    return {.geometry = side.geometry,
            .rows = {set.of(side.rows).get(), form_of(role, side.rows)},
            .channels = {set.of(side.channels).get(), form_of(role, side.channels)},
            .wire = side.wire.type,
            .decoy_images = decoy_images,
            .panels = side.wire.panels};
  }
  /// The number of elements of one item in plain, without decoys.
  [[nodiscard]] int64_t plain_elements() const {
    const obfuscation::TileGeometry& g = side.geometry;
    return (g.images - decoy_images) * g.height * g.width * g.channels;
  }
  /// Bytes of one item on the wire.
  [[nodiscard]] size_t wire_bytes() const {
    return static_cast<size_t>(side.geometry.elements()) * element_bytes(side.wire.type);
  }
};

}  // namespace tempo::offload
