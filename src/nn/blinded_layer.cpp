#include "nn/blinded_layer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>
#include <vector>

#include "nn/token_functions.h"
#include "tempo/error.h"

namespace tempo::nn {

using offload::ConstPlainTensor;
using offload::ElementType;
using offload::PlainTensor;
using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

namespace {

ElementType element_type(const Tensor& tensor) {
  if (tensor.scalar_type() == torch::kFloat32) return ElementType::kFloat32;
  if (tensor.scalar_type() == torch::kFloat64) return ElementType::kFloat64;
  throw InputError(fmt::format("offload: element type {} cannot be blinded, expected float32 or float64",
                               c10::toString(tensor.scalar_type())));
}
ConstPlainTensor view(const Tensor& tensor) {
  return tensor.defined() ? ConstPlainTensor(element_type(tensor), tensor.data_ptr()) : ConstPlainTensor();
}
PlainTensor writable(Tensor& tensor) {
  return tensor.defined() ? PlainTensor{element_type(tensor), tensor.data_ptr()} : PlainTensor{};
}

// These convert [N, C, H, W] in any layout to contiguous [N, H, W, C] and back; neither copies channels-last memory.
Tensor channels_last(const Tensor& nchw) { return nchw.permute({0, 2, 3, 1}).contiguous(); }
Tensor channels_first_view(const Tensor& nhwc) { return nhwc.permute({0, 3, 1, 2}); }

/// Keeps a forward call's state in the graph, and the layer with it.
template <typename UniqueCall>
struct CallHolder : torch::CustomClassHolder {
  CallHolder(std::shared_ptr<BlindedLayer> owner, UniqueCall state, OnTheWay neighbours = {})
      : layer(std::move(owner)), call(std::move(state)), way(std::move(neighbours)) {}
  std::shared_ptr<BlindedLayer> layer;
  UniqueCall call;
  OnTheWay way;
};
using ProductHolder = CallHolder<offload::BlindedProduct::UniqueCall>;
using MatmulHolder = CallHolder<offload::BlindedMatmul::UniqueCall>;

template <typename Holder>
c10::intrusive_ptr<Holder> saved_call(AutogradContext* ctx) {
  return c10::static_intrusive_pointer_cast<Holder>(ctx->saved_data["call"].toCapsule());
}

/// The state of a forward call that has not been differentiated yet.
template <typename UniqueCall>
auto& open_call(CallHolder<UniqueCall>& holder) {
  if (torch::GradMode::is_enabled())
    throw InputError(
        "offload: backward with create_graph: gradients of blinded products cannot be differentiated again");
  if (!holder.call)
    throw InputError(
        "offload: a second backward over one forward: its operands have left the worker; run forward again");
  return *holder.call;
}

void check_operands(const std::string& layer, const Tensor& a, const Tensor& b, bool fit) {
  if (fit && a.device().is_cpu() && b.device().is_cpu() && a.scalar_type() == b.scalar_type()) return;
  throw InputError(
      fmt::format("layer {}: operands {} [{}] and {} [{}] do not fit, expected CPU tensors of one type and of "
                  "the layer's shape",
                  layer, c10::toString(a.scalar_type()), fmt::join(a.sizes(), ", "), c10::toString(b.scalar_type()),
                  fmt::join(b.sizes(), ", ")));
}

/// Whether backward reads the operands of forward again: to verify, to blind them anew, or for a worker that takes
/// over.
bool keeps_plain_operands(offload::Session& session, bool verification_reads_them) {
  return session.options().reuse == Reuse::kNone || (session.verifier().is_on() && verification_reads_them) ||
         session.workers().is_redundant();
}

/// y = x * w, with x [N, H, W, in] and w [out, kh, kw, in]. A linear layer is the pointwise case. `y_shape` may be any
/// shape with as many elements; y is made in it at once because changing a view of y in place would copy. The second
/// result is x itself. With a norm in `way`, whose weight and bias are passed too, y = activation(norm(x)) * w.
struct ProductFunction : torch::autograd::Function<ProductFunction> {
  static variable_list forward(AutogradContext* ctx, const Tensor& x, const Tensor& w,
                               const c10::optional<Tensor>& /*norm_weight*/, const c10::optional<Tensor>& /*norm_bias*/,
                               const std::shared_ptr<BlindedLayer>& layer, const std::vector<int64_t>& y_shape,
                               const OnTheWay& way) {
    offload::BlindedProduct& product = *layer->product();
    const auto& g = product.geometry();
    check_operands(
        product.layer(), x, w,
        x.dim() == 4 && x.size(3) == g.in && w.sizes() == at::IntArrayRef({g.out, g.kernel_h, g.kernel_w, g.in}));
    const offload::ImageShape shape{x.size(0), x.size(1), x.size(2)};
    Tensor y = torch::empty(y_shape, x.options());
    auto call = product.forward(shape, view(x), view(w), writable(y),
                                way.norm ? way.norm->map() : obfuscation::PixelMap(), moments(way.moments.get()));
    ctx->saved_data["x_shape"] = x.sizes().vec();
    ctx->saved_data["w_shape"] = w.sizes().vec();
    ctx->saved_data["want_dx"] = x.requires_grad() || way.norm;
    ctx->saved_data["want_dw"] = w.requires_grad();
    // A returned gradient is checked with what was measured of x while it was blinded. Following a resident weight's
    // gradient needs x itself.
    if (keeps_plain_operands(product.session(), product.resident() != nullptr)) ctx->save_for_backward({x, w});
    ctx->saved_data["call"] =
        c10::IValue::make_capsule(c10::make_intrusive<ProductHolder>(layer, std::move(call), way));
    ctx->set_materialize_grads(false);
    return {y, x};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto holder = saved_call<ProductHolder>(ctx);
    offload::BlindedProduct& product = *holder->layer->product();
    if (!gradients[0].defined()) return {gradients[1], {}, {}, {}, {}, {}, {}};  // nothing read y
    const Tensor dy = gradients[0].contiguous(), addend = gradients[1].defined() ? gradients[1].contiguous() : Tensor();
    const auto saved = ctx->get_saved_variables();
    const bool want_dw = ctx->saved_data["want_dw"].toBool();
    Tensor dx, dw;
    if (ctx->saved_data["want_dx"].toBool()) dx = torch::empty(ctx->saved_data["x_shape"].toIntVector(), dy.options());
    if (want_dw && product.resident() == nullptr)
      dw = torch::empty(ctx->saved_data["w_shape"].toIntVector(), dy.options());
    const auto plain = [&](size_t i) { return saved.empty() ? ConstPlainTensor() : view(saved[i]); };
    product.backward(open_call(*holder), plain(0), plain(1), view(dy), writable(dx), writable(dw), want_dw,
                     view(addend));
    holder->call.reset();  // frees the worker's copies
    const auto norm = std::exchange(holder->way.norm, nullptr);
    if (!norm) return {dx, dw, {}, {}, {}, {}, {}};
    const auto of_norm = norm->backward(channels_first_view(dx));
    return {channels_last(of_norm.dx), dw, of_norm.dweight, of_norm.dbias, {}, {}, {}};
  }

 private:
  static offload::MomentsOnTheWay moments(ResultMoments* of) {
    if (of == nullptr) return {};
    of->sums.resize(of->shift.size());
    of->squares.resize(of->shift.size());
    return {of->shift.data(), of->sums.data(), of->squares.data()};
  }
};

struct MatmulFunction : torch::autograd::Function<MatmulFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& a, const Tensor& b,
                        const std::shared_ptr<BlindedLayer>& layer) {
    offload::BlindedMatmul& product = *layer->matmul();
    check_operands(product.layer(), a, b,
                   a.dim() == 3 && b.dim() == 3 && a.size(0) == b.size(0) && a.size(2) == b.size(1));
    Tensor c = torch::empty({a.size(0), a.size(1), b.size(2)}, a.options());
    auto call = product.forward({a.size(0), a.size(1), a.size(2), b.size(2)}, view(a), view(b), writable(c));
    ctx->saved_data["a_shape"] = a.sizes().vec();
    ctx->saved_data["b_shape"] = b.sizes().vec();
    if (keeps_plain_operands(product.session(), true)) ctx->save_for_backward({a, b});
    ctx->saved_data["call"] = c10::IValue::make_capsule(c10::make_intrusive<MatmulHolder>(layer, std::move(call)));
    return c;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto holder = saved_call<MatmulHolder>(ctx);
    const Tensor dc = gradients[0].contiguous();
    const auto saved = ctx->get_saved_variables();
    Tensor da = torch::empty(ctx->saved_data["a_shape"].toIntVector(), dc.options());
    Tensor db = torch::empty(ctx->saved_data["b_shape"].toIntVector(), dc.options());
    const auto plain = [&](size_t i) { return saved.empty() ? ConstPlainTensor() : view(saved[i]); };
    holder->layer->matmul()->backward(open_call(*holder), plain(0), plain(1), view(dc), writable(da), writable(db));
    holder->call.reset();
    return {da, db, Variable()};
  }
};

}  // namespace

Tensor offloaded_conv2d(const std::shared_ptr<BlindedLayer>& layer, const Tensor& x, const Tensor& weight,
                        const Tensor& bias, Tensor* skip, const OnTheWay& way) {
  const offload::BlindedProduct& product = *layer->product();
  const std::vector<int64_t> shape = {x.size(0), product.out_height(x.size(2)), product.out_width(x.size(3)),
                                      product.geometry().out};
  using OptionalTensor = c10::optional<Tensor>;
  const variable_list results = ProductFunction::apply(
      channels_last(x), channels_last(weight), way.norm ? OptionalTensor(way.norm->weight()) : OptionalTensor(),
      way.norm ? OptionalTensor(way.norm->bias()) : OptionalTensor(), layer, shape, way);
  if (skip != nullptr) *skip = channels_first_view(results[1]);
  return channels_first_view(add_bias_(results[0], bias));
}

Tensor offloaded_linear(const std::shared_ptr<BlindedLayer>& layer, const Tensor& x, const Tensor& weight,
                        const Tensor& bias) {
  const int64_t in = weight.size(1), out = weight.size(0);
  auto shape = x.sizes().vec();
  shape.back() = out;
  const variable_list results =
      ProductFunction::apply(x.reshape({-1, 1, 1, in}).contiguous(), weight.view({out, 1, 1, in}).contiguous(),
                             c10::optional<Tensor>(), c10::optional<Tensor>(), layer, shape, OnTheWay());
  return add_bias_(results[0], bias);
}

Tensor offloaded_matmul(const std::shared_ptr<BlindedLayer>& layer, const Tensor& a, const Tensor& b) {
  return MatmulFunction::apply(a.contiguous(), b.contiguous(), layer);
}

void fetch_resident(BlindedLayer& layer, Tensor& weight, Tensor velocity) {
  const torch::NoGradGuard no_grad;
  const auto& g = layer.product()->geometry();
  const auto staging = [&] { return torch::empty({g.out, g.kernel_h, g.kernel_w, g.in}, weight.options()); };
  const auto copy_back = [](const Tensor& from, Tensor& to) {
    to.copy_(to.dim() == 4 ? channels_first_view(from) : from.view_as(to));
  };
  Tensor plain_weight = staging(), plain_velocity = velocity.defined() ? staging() : Tensor();
  layer.resident()->fetch(writable(plain_weight), writable(plain_velocity));
  copy_back(plain_weight, weight);
  if (velocity.defined()) copy_back(plain_velocity, velocity);
}

void start_resident(BlindedLayer& layer, const Tensor& weight, const Tensor& velocity, uint64_t step) {
  const torch::NoGradGuard no_grad;
  const auto dense = [](const Tensor& tensor) {
    return tensor.dim() == 4 ? channels_last(tensor) : tensor.contiguous();
  };
  const Tensor dense_weight = dense(weight), dense_velocity = dense(velocity);
  layer.resident()->start(view(dense_weight), view(dense_velocity), step);
}

}  // namespace tempo::nn
