/// One layer's product of an activation and a weight, computed by a worker on blinded operands.
/// Equations: docs/blinding.md;  X~ = L X M,  W~ = M^-1 W R,  Y~ = L Y R,  dY~ = L^-T dY R^-T.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "offload/resident_weight.h"
#include "offload/session.h"

namespace tempo::offload {

/// Shape of the weight and how it slides. A linear layer is a pointwise convolution over images of one pixel.
struct ProductGeometry {
  int64_t in = 0, out = 0;
  int64_t kernel_h = 1, kernel_w = 1;
  int64_t stride = 1, padding = 0, dilation = 1;
};

/// Activation shape [images, height, width, in], channels last.
struct ImageShape {
  int64_t images = 0, height = 1, width = 1;
};

class BlindedProduct {
 public:
  /// @param layer the layer's name in the model; names its keys.
  BlindedProduct(Session& session, std::string layer, const ProductGeometry& geometry);

  /// What the backward pass needs: the keys, and the operands that wait on the worker.
  struct Call;
  struct CallDeleter {
    void operator()(Call* call) const noexcept;
  };
  using UniqueCall = std::unique_ptr<Call, CallDeleter>;

  /// Whether moments can be taken of results while they are un-blinded.
  [[nodiscard]] bool works_on_the_way() const;
  /// Whether an operand can be computed from other tensors while it is blinded (`obfuscation::PixelMap`). It can where
  /// nothing else reads the operand.
  [[nodiscard]] bool makes_operand() const;

  /// y = x * w.  x [images, height, width, in],  w [out, kernel_h, kernel_w, in],  y [images, oh, ow, out], one type.
  /// @param map     makes the operand of x, only where `makes_operand`, and may be asked again as long as the call
  ///                lives; or empty: it is x
  /// @param moments of y, only where `works_on_the_way`
  /// @returns the state for `backward`; dropping it frees the worker's copies.
  UniqueCall forward(const ImageShape& shape, ConstPlainTensor x, ConstPlainTensor w, PlainTensor y,
                     obfuscation::PixelMap map = {}, const MomentsOnTheWay& moments = {});

  /// Gradients. `dx` or `dw` with null data is not computed. `w` is read only under reuse=none, `x` there and where the
  /// session verifies resident weights: both as they were in `forward`.
  /// @throws IntegrityError if the session verifies and a result is not the product that was asked for.
  /// With resident weights the weight gradient stays on the worker and `dw` must be null; pass `want_dw`.
  /// @param addend of the shape of dx, is added to it; null data: nothing
  void backward(Call& call, ConstPlainTensor x, ConstPlainTensor w, ConstPlainTensor dy, PlainTensor dx, PlainTensor dw,
                bool want_dw, ConstPlainTensor addend = {});

  [[nodiscard]] const std::string& layer() const { return layer_; }
  [[nodiscard]] const ProductGeometry& geometry() const { return geometry_; }
  [[nodiscard]] Session& session() { return session_; }
  /// The resident weight, or nullptr where weights are returned.
  [[nodiscard]] ResidentWeight* resident() { return resident_ ? &*resident_ : nullptr; }
  /// Output size of one image side.
  [[nodiscard]] int64_t out_height(int64_t height) const;
  [[nodiscard]] int64_t out_width(int64_t width) const;

 private:
  [[nodiscard]] std::vector<int64_t> weight_wire_shape() const {
    return {geometry_.out, geometry_.kernel_h, geometry_.kernel_w, geometry_.in};
  }
  [[nodiscard]] obfuscation::KeyPath path_of(const Call& call, uint64_t purpose) const;
  ProductKeys derive(const Call& call, uint64_t purpose, bool left, bool inner, bool right,
                     const ProductKeys& otherwise);
  /// @param purpose names the keys, and the noise that goes with the operand.
  /// What is sent, and how to make it again: with `call`, the tensor and the keys as they are now.
  using Blinding = Session::Blinding;
  Blinding blinding_of_x(const Call& call, ConstPlainTensor x, const ProductKeys& keys, uint64_t purpose,
                         const ProductsOnTheWay& products = {});
  Blinding blinding_of_w(const Call& call, ConstPlainTensor w, const ProductKeys& keys);
  Blinding blinding_of_dy(const Call& call, ConstPlainTensor dy, const ProductKeys& keys, uint64_t purpose,
                          const ProductsOnTheWay& products);
  /// Lets what waits on the workers be made again, while `x` and `w` are there.
  void set_sources(const Call& call, ConstPlainTensor x, ConstPlainTensor w);
  void accept_input_gradient(Call& call, PendingReply& reply, const ProductKeys& keys, PlainTensor dx,
                             const void* addend);
  /// Lets the workers sum the gradient among themselves. False if they cannot, or the sum is wrong.
  bool accept_sum_of_workers(Call& call, const WeightGradient& gradient, const ProductKeys& keys, ConstPlainTensor x);
  void accept_weight_gradient(Call& call, PendingReply& reply, const ProductKeys& keys, ConstPlainTensor x,
                              PlainTensor dw);
  /// Un-blinds a gradient, and checks it where that is wanted.
  void unblind_gradient(Call& call, const ProductKeys& keys, const Buffer& blinded, PlainTensor dw);
  /// The same of one that is not wanted in plain.
  void check_gradient(Call& call, const ProductKeys& keys, const Buffer& sum);
  void follow_gradient(Call& call, ConstPlainTensor x);
  /// Starts to verify a call, or to follow its gradient; nothing where neither is wanted.
  void begin_verification(Call& call, ConstPlainTensor w);
  void measure(Probe& probe, ConstPlainTensor x);
  void expect_no_map(const obfuscation::PixelMap& map) const;
  using Check = std::function<void(const Probe&)>;
  /// Un-blinds a result and, unless `probe` is of nothing, checks what it finds; then adds the item's addend.
  void unblind_and_check(const Session::ArrivingReply& blinded, const obfuscation::TileGeometry& geometry,
                         Session::UnblindItem item, Probe probe, const Check& check);
  /// As CallVerifier wants it, for pixels cut by `geometry` and mixed by `rows`; nothing where rows are not mixed.
  [[nodiscard]] CallVerifier::LargestMixed largest_mixed(const obfuscation::TileGeometry& geometry,
                                                         obfuscation::KeyUse rows);

  Session& session_;
  std::string layer_;
  ProductGeometry geometry_;
  obfuscation::TileGeometry weight_geometry_;
  std::optional<ResidentWeight> resident_;
  std::optional<integrity::WeightFingerprint> fingerprint_;  // of weights that are returned
  CallCounter calls_;
};

/// Product of two activations, c = a b, with a key triple of its own for every item of the batch.
class BlindedMatmul {
 public:
  BlindedMatmul(Session& session, std::string layer) : session_(session), layer_(std::move(layer)) {}

  struct Shape {
    int64_t batch = 0, n = 0, d = 0, m = 0;  ///< a [batch, n, d], b [batch, d, m], c [batch, n, m]
  };
  struct Call;
  struct CallDeleter {
    void operator()(Call* call) const noexcept;
  };
  using UniqueCall = std::unique_ptr<Call, CallDeleter>;

  UniqueCall forward(const Shape& shape, ConstPlainTensor a, ConstPlainTensor b, PlainTensor c);
  /// Both gradients. `a` and `b` are read only under reuse=none, and where the session verifies.
  void backward(Call& call, ConstPlainTensor a, ConstPlainTensor b, ConstPlainTensor dc, PlainTensor da,
                PlainTensor db);

  [[nodiscard]] Session& session() { return session_; }
  [[nodiscard]] const std::string& layer() const { return layer_; }

 private:
  struct BatchKeys {
    std::vector<ProductKeys> items;
  };
  BatchKeys derive(const Call& call, uint64_t purpose, bool left, bool inner, bool right, const BatchKeys* otherwise);
  using Blinding = Session::Blinding;
  Blinding blinding_of_a(const Call& call, ConstPlainTensor a, const BatchKeys& keys);
  Blinding blinding_of_b(const Call& call, ConstPlainTensor b, const BatchKeys& keys);
  Blinding blinding_of_dc(const Call& call, ConstPlainTensor dc, const BatchKeys& keys);
  void set_sources(const Call& call, ConstPlainTensor a, ConstPlainTensor b);
  template <typename Check>
  void verify(const Call& call, const char* what, const Check& check);
  [[nodiscard]] Product product() const {
    return {.kind = ProductKind::kMatmul, .precision = session_.options().products};
  }

  Session& session_;
  std::string layer_;
  CallCounter calls_;
};

}  // namespace tempo::offload
