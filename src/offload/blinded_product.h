/// Products that a worker computes on blinded operands: activation x weight, and activation x activation.
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

/// One layer's product y = x * w of an activation and a weight. Not thread-safe. Must not outlive its session.
class BlindedProduct {
 public:
  /// @param layer the layer's name in the model. Keys are derived from it, so it must be unique in the session.
  BlindedProduct(Session& session, std::string layer, const ProductGeometry& geometry);

  /// What the backward pass needs: the keys of the forward pass, and the operands that stay on the workers.
  struct Call;
  struct CallDeleter {
    void operator()(Call* call) const noexcept;
  };
  using UniqueCall = std::unique_ptr<Call, CallDeleter>;

  /// Whether the moments of a result can be computed while it is un-blinded.
  [[nodiscard]] bool works_on_the_way() const;
  /// Whether an operand can be computed from other tensors while it is blinded (`obfuscation::PixelMap`). It can if
  /// nothing else reads the operand.
  [[nodiscard]] bool makes_operand() const;

  /// y = x * w.  x [images, height, width, in],  w [out, kernel_h, kernel_w, in],  y [images, oh, ow, out], all of one
  /// type.
  /// @param map     Computes pixels of the operand that is blinded in place of x. It may be called again for a pixel as
  /// long as the call lives. Allowed only if `makes_operand()` is true. Empty: x itself is blinded.
  /// @param moments Receives the moments of y. Allowed only if `works_on_the_way()` is true.
  /// @returns the state for `backward`. Dropping it frees the workers' copies of the operands.
  /// @throws InputError if `map` is given where the operand is needed in memory; IntegrityError if the session verifies
  /// and no worker returns the right product.
  UniqueCall forward(const ImageShape& shape, ConstPlainTensor x, ConstPlainTensor w, PlainTensor y,
                     obfuscation::PixelMap map = {}, const MomentsOnTheWay& moments = {});

  /// Computes the gradients of x and w. A gradient is skipped if its `dx` or `dw` has null data.
  /// With resident weights the weight gradient stays on the worker: `dw` must be null, and `want_dw` asks for the
  /// gradient. `w` is read under reuse=none, `x` also if the session verifies resident weights; both are read again to
  /// blind an operand that is lost with its worker. If they are given, they must hold what they held in `forward` until
  /// the call is dropped.
  /// @param addend has the shape of dx and is added to it. Null data: nothing is added.
  /// @throws IntegrityError if the session verifies and no worker returns the right product.
  void backward(Call& call, ConstPlainTensor x, ConstPlainTensor w, ConstPlainTensor dy, PlainTensor dx, PlainTensor dw,
                bool want_dw, ConstPlainTensor addend = {});

  [[nodiscard]] const std::string& layer() const { return layer_; }
  [[nodiscard]] const ProductGeometry& geometry() const { return geometry_; }
  [[nodiscard]] Session& session() { return session_; }
  /// The resident weight, or nullptr if weights are returned.
  [[nodiscard]] ResidentWeight* resident() { return resident_ ? &*resident_ : nullptr; }
  /// Height of the output, in pixels, of an image of this height. `out_width` is the same for the width.
  [[nodiscard]] int64_t out_height(int64_t height) const;
  [[nodiscard]] int64_t out_width(int64_t width) const;

 private:
  [[nodiscard]] std::vector<int64_t> weight_wire_shape() const {
    return {geometry_.out, geometry_.kernel_h, geometry_.kernel_w, geometry_.in};
  }
  [[nodiscard]] obfuscation::KeyPath path_of(const Call& call, uint64_t purpose) const;
  ProductKeys derive(const Call& call, uint64_t purpose, bool left, bool inner, bool right,
                     const ProductKeys& otherwise);
  /// The functions below return functions that blind one operand under `keys`. Those refer to the call, which must
  /// live, and hold a handle on the tensor. `purpose` names the noise of the operand's decoys.
  using Blinding = Session::Blinding;
  Blinding blinding_of_x(const Call& call, ConstPlainTensor x, const ProductKeys& keys, uint64_t purpose,
                         const ProductsOnTheWay& products = {});
  Blinding blinding_of_w(const Call& call, ConstPlainTensor w, const ProductKeys& keys);
  Blinding blinding_of_dy(const Call& call, ConstPlainTensor dy, const ProductKeys& keys, uint64_t purpose,
                          const ProductsOnTheWay& products);
  /// Makes the operands on the workers recoverable from `x` and `w`. Null data makes an operand unrecoverable.
  void set_sources(const Call& call, ConstPlainTensor x, ConstPlainTensor w);
  void accept_input_gradient(Call& call, PendingReply& reply, const ProductKeys& keys, PlainTensor dx,
                             const void* addend);
  /// Lets the workers sum the gradient among themselves. Returns false if they cannot, or if the sum is wrong.
  bool accept_sum_of_workers(Call& call, const WeightGradient& gradient, const ProductKeys& keys, ConstPlainTensor x);
  void accept_weight_gradient(Call& call, PendingReply& reply, const ProductKeys& keys, ConstPlainTensor x,
                              PlainTensor dw);
  /// Un-blinds a weight gradient into `dw`, and checks it if the call is verified.
  void unblind_gradient(Call& call, const ProductKeys& keys, const Buffer& blinded, PlainTensor dw);
  /// Checks a weight gradient that is not needed in plain, if the call is verified.
  void check_gradient(Call& call, const ProductKeys& keys, const Buffer& sum);
  void follow_gradient(Call& call, ConstPlainTensor x);
  /// Starts to verify a call, or to follow its weight gradient. Does nothing if neither is wanted.
  void begin_verification(Call& call, ConstPlainTensor w);
  void measure(Probe& probe, ConstPlainTensor x);
  void expect_no_map(const obfuscation::PixelMap& map) const;
  using Check = std::function<void(const Probe&)>;
  /// Un-blinds a result, checks what `probe` finds in it unless the probe is empty, and then adds the item's addend.
  void unblind_and_check(const Session::ArrivingReply& blinded, const obfuscation::TileGeometry& geometry,
                         Session::UnblindItem item, Probe probe, const Check& check);
  /// The function that CallVerifier needs, for pixels that are cut by `geometry` and mixed by `rows`. Empty if the
  /// protection does not mix rows.
  [[nodiscard]] CallVerifier::LargestMixed largest_mixed(const obfuscation::TileGeometry& geometry,
                                                         obfuscation::KeyUse rows);

  Session& session_;
  std::string layer_;
  ProductGeometry geometry_;
  obfuscation::TileGeometry weight_geometry_;
  std::optional<ResidentWeight> resident_;
  std::optional<integrity::WeightFingerprint> fingerprint_;  // set if weights are returned and the session verifies
  CallCounter calls_;
};

/// Product of two activations, c = a b, with three keys of its own for every item of the batch. Not thread-safe. Must
/// not outlive its session.
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
  /// Computes both gradients. `a` and `b` are read under reuse=none, if the session verifies, and to blind an operand
  /// again that is lost with its worker. They must hold what they held in `forward`.
  /// @throws IntegrityError if the session verifies and no worker returns the right product.
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
