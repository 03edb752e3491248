/// Products that workers compute on blinded operands: activation x weight, and activation x activation. What is sent
/// and how it is keyed: contraction.h. Equations: docs/blinding.md.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "offload/product_layout.h"
#include "offload/resident_weight.h"
#include "offload/session.h"

namespace tempo::offload {

/// One product y = x * w of a model, with its gradients. Not thread-safe. Must not outlive its session.
class BilinearProduct {
 public:
  /// A product of an activation and a weight.
  /// @param layer the layer's name in the model. Keys are derived from it, so it must be unique in the session.
  BilinearProduct(Session& session, std::string layer, const ProductGeometry& geometry);
  BilinearProduct(Session& session, std::string layer, const ProductGeometry& geometry, const WeightFacts& facts);
  /// A product of two activations, with three keys of its own for every item of the batch.
  BilinearProduct(Session& session, std::string layer);

  /// What the backward pass needs: the keys of the forward pass, and the operands that stay on the workers.
  struct Call;
  struct CallDeleter {
    void operator()(Call* call) const noexcept;
  };
  using UniqueCall = std::unique_ptr<Call, CallDeleter>;

  /// Whether the moments of a result can be taken while it is un-blinded.
  [[nodiscard]] bool takes_moments() const;
  /// Whether an operand can be made while it is blinded. It can if nothing else reads the operand.
  [[nodiscard]] bool makes_operand() const;

  /// All are of one type. Their memory must stay as it is until the call is dropped if `keeps_operands()` is true;
  /// views that own their memory keep it.
  struct Inputs {
    ConstPlainTensor x, w;
    /// Computes the operand that is blinded in place of x. Allowed only if `makes_operand()` is true.
    std::shared_ptr<const obfuscation::ChannelAffine> map = nullptr;
  };
  struct Outputs {
    PlainTensor y;
    obfuscation::PixelMoments moments = {};  ///< of y; allowed only if `takes_moments()` is true
  };
  /// Whether the operands of `forward` may be read again: to verify, to blind them anew, or for a worker that takes
  /// over.
  [[nodiscard]] bool keeps_operands() const;
  /// Whether w is blinded once more for the gradient of x. The same then holds for its memory alone.
  [[nodiscard]] bool sends_second_again() const;

  /// y = x * w.  x [images, height, width, in],  w [out, kernel_h, kernel_w, in],  y [images, oh, ow, out].
  /// @returns the state for `backward`. Dropping it frees the workers' copies of the operands.
  /// @throws InputError if there is a map where the operand is needed in memory; IntegrityError if the session verifies
  /// and no worker returns the right product.
  UniqueCall forward(const ImageShape& shape, const Inputs& in, const Outputs& out);
  UniqueCall forward(const BatchShape& shape, const Inputs& in, const Outputs& out);

  struct Gradients {
    PlainTensor dx = {};  ///< null data: not wanted
    PlainTensor dw = {};  ///< null data: not wanted in the TEE
    /// Whether there should be a weight gradient. If the parameter keeps it, it stays on the workers, and `dw` must be
    /// null.
    bool want_dw = true;
    ConstPlainTensor addend = {};  ///< has the shape of dx and is added to it; null data: nothing is
  };
  /// Computes the gradients of x and w from that of y.
  /// @throws IntegrityError if the session verifies and no worker returns the right product.
  void backward(Call& call, const ConstPlainTensor& dy, const Gradients& out);

  [[nodiscard]] const std::string& layer() const { return layer_; }
  /// Geometry of a product that has a weight.
  [[nodiscard]] const ProductGeometry& geometry() const { return geometry_; }
  [[nodiscard]] Session& session() { return session_; }
  /// The weight, or nullptr for a product of two activations.
  [[nodiscard]] Parameter* parameter() { return parameter_.get(); }
  /// Height of the output, in pixels, of an image of this height. `out_width` is the same for the width.
  [[nodiscard]] int64_t out_height(int64_t height) const;
  [[nodiscard]] int64_t out_width(int64_t width) const;

 private:
  struct Part;
  struct Outgoing;
  UniqueCall run(ProductLayout layout, const Inputs& in, const Outputs& out);

  [[nodiscard]] obfuscation::KeyPath path_of(const Call& call, const Contraction& of, size_t item) const;
  /// The keys of a contraction: those of the forward product, or some drawn anew, as `reuse` says.
  std::vector<ProductKeys> derive(const Call& call, const Contraction& of);
  [[nodiscard]] KeyedTensor keyed(const Call& call, Role role, const std::vector<ProductKeys>& keys) const;

  /// Sends the weight or takes the lease of a resident one, and sets the keys of the forward product.
  void lease_weight(Call& call, const ConstPlainTensor& w);

  /// Starts to verify a call, or to follow its weight gradient. Does nothing if neither is wanted.
  void begin_verification(Call& call, const Inputs& in);
  struct Verification {
    bool is_checked = false, is_followed = false;
  };
  /// Whether a key is drawn anew for another product of a call.
  [[nodiscard]] bool is_renewed(KeyRole role, const Contraction& of) const;
  void verify(Call& call, Part& part, const Verification& how, const ConstPlainTensor& w);
  /// The parts of a contraction's first operand. They own their memory unless the activation is not split.
  std::vector<ConstPlainTensor> split(const Call& call, const Contraction& of, const ConstPlainTensor& plain);
  /// Decides how the figures that verification needs of an activation are come by, and measures those that cannot be
  /// taken while it is blinded.
  Outgoing prepare(const Call& call, const Part& part, Role role, const Inputs& plain);
  void settle(Part& part, Outgoing& outgoing);
  Operand send(const Call& call, const Part& part, const Contraction& of, const std::vector<ProductKeys>& keys,
               const Outgoing& outgoing);
  Operand send_second(const Call& call, const std::vector<ProductKeys>& keys, const ConstPlainTensor& w);
  PendingReply start(const Contraction& of, Operation operation, const TensorSpec& expected);
  Buffer finish(const Call& call, const Part& part, PendingReply& reply, const BlindedResult& result);

  struct Backward;
  class Targets;
  void start_input_gradient(const Call& call, Backward& state);
  void start_weight_gradient(const Call& call, Backward& state);
  void finish_input_gradient(const Call& call, Backward& state, const Gradients& out);
  void finish_weight_gradient(const Call& call, Backward& state, const PlainTensor& dw);
  /// Lets the workers sum the gradient among themselves. Returns false if they cannot, or if the sum is wrong.
  bool take_sum_of_workers(const Call& call, const Backward& state, const BlindedResult& result);
  void follow_gradient(const Part& part);
  [[nodiscard]] WeightGradient weight_gradient(const Call& call, const Backward& state, OperandId keep_as) const;
  void expect_no_map(const Inputs& in) const;

  Session& session_;
  std::string layer_;
  ProductGeometry geometry_;
  std::unique_ptr<Parameter> parameter_;  // nullptr for a product of two activations
  ResidentWeight* resident_ = nullptr;    // the parameter, if it keeps its gradient on the workers
  CallCounter calls_;
};

}  // namespace tempo::offload
