/// One layer of one training run, from three sides: what the worker saw, what an attacker may know besides, and the
/// truth that guesses are scored against. Equations: docs/blinding.md;  X~ = L X M,  W~ = M^-1 W R,  Y~ = L Y R,
/// dY~ = L^-T dY R^-T,  dX~ = L^-T dX M^-T,  dW~ = M^T dW R^-T.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "audit/operand.h"

namespace tempo::audit {

/// What the worker held of one layer in one training step. Weights are [out, kernel_h, kernel_w, in] throughout, so W~
/// of the equations reads, for kernel tap k,  w.at_position(k) = R^T W_k M^-T  with W_k [out, in].
/// Later steps of a long recording hold `x` (its first rows only), `w`, `w_again`, `dw` and products; the rest of them
/// is empty.
struct StepView {
  int64_t step = 0;
  Operand x, w, y;     ///< forward: X~, W~, Y~
  Operand dy, dx, dw;  ///< backward: dY~ as sent for dX~; dX~; dW~ (computed by the worker also where it is resident)
  Operand dy_for_dw;   ///< the second dY~ under reuse=fresh|none, else empty
  Operand x_again;     ///< the second X~ under reuse=none, else empty
  Operand w_again;     ///< the second W~ under reuse=split|none, else empty
  /// X~^T X~, [positions * channels]^2 as rows lie in memory, summed over the whole of X~ of this step and of all later
  /// ones under the same M. Empty but for the first step of every M, and where it would be large.
  Matrix x_products;
  int64_t x_product_rows = 0;  ///< rows that `x_products` sums over, decoys among them
  Matrix dy_products;          ///< sum over rows and positions of this step's dY~^T dY~, [out, out], decoys among them
};

/// The plain side of a StepView: same shapes, same order of rows. Only scoring may read it.
struct StepTruth {
  Operand x, w, y, dy, dx, dw;
  Matrix inner;             ///< M [in, in]
  Matrix right;             ///< R [out, out]
  Matrix inner_again;       ///< the inner key of dX~, N [in, in]: M but under reuse=split|none
  Matrix right_again;       ///< the right key of dW~, Q [out, out]: R under reuse=full; 0x0 where dW~ never comes back
  double rows_mixed = 1;    ///< effective number of rows in one row of X~: 1 / mean_j sum_i L_ij^4, 1 where L is a
                            ///< permutation
  std::vector<int> labels;  ///< class of every image of the batch; image of a row: row / (rows / images)
  Operand images;        ///< what the network was given, [images, height, width, colours], in grey levels of 0 to 255
  Operand first_weight;  ///< the first layer's, which stays in the TEE: [out, kernel_h, kernel_w, colours]
};

/// What an attacker is assumed to have besides the view. Empty operands: not available.
/// Under a secret random start it comes from a model of the same architecture that the attacker trained; under a public
/// start it is the start itself.
struct Knowledge {
  Operand weight;       ///< a weight thought to be near W
  Operand activations;  ///< what the attacker's own model computes for X from the inputs of the first recorded step
  Operand images;       ///< other images of the same kind, [images, height, width, colours], in grey levels of 0 to 255
  /// X^T X as `StepView::x_products`, of what the victim's own first layer makes of such other images: available where
  /// that layer is public or guessed.
  Matrix first_layer_products;
  int64_t first_layer_rows = 0;
};

struct LayerCase {
  std::string layer;                 ///< name in the model
  int64_t stride = 1;                ///< of the convolution
  int64_t tiles_y = 1, tiles_x = 1;  ///< tiles of one image; row r is tile r % (tiles_y * tiles_x) of its image
  std::vector<StepView> view;        ///< by step
  std::vector<StepTruth> truth;      ///< same length; the plain operands of later steps are empty
  double decoy_energy = 0;           ///< of the noise among the rows of X~, relative to the real ones: a public setting
  Knowledge knowledge;
  /// The layer that reads this one's output, if recorded: through a norm, the addition of a shortcut if
  /// `adds_shortcut`, and ReLU. The attacker knows it: it is the architecture.
  const LayerCase* next = nullptr;
  const LayerCase* previous = nullptr;  ///< the layer of which this one is the `next`
  /// What `previous` reads is added to this layer's norm, subsampled by the stride of `previous` and with channels of
  /// zeros on both sides where this layer has more.
  bool adds_shortcut = false;
  bool reads_first_layer = false;  ///< X is ReLU of the norm of the first layer's output, which stays in the TEE
  double patience = 1;          ///< how long attacks that trade time for success may take, relative to about a second
  bool counterfactual = false;  ///< a layer that Tempo never offloads, blinded for this audit to show why

  [[nodiscard]] int64_t in() const { return view.front().w.channels; }
  [[nodiscard]] int64_t out() const { return view.front().w.rows; }
  [[nodiscard]] int64_t taps() const { return view.front().w.positions(); }
};

}  // namespace tempo::audit
