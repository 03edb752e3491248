#include "nn/offloaded.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>
#include <vector>

#include "nn/token_functions.h"
#include "tempo/error.h"

namespace tempo::nn {

using contract::ElementType;
using offload::ConstPlainTensor;
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
/// A view that keeps the tensor's memory.
ConstPlainTensor view(const Tensor& tensor) {
  if (!tensor.defined()) return {};
  return {element_type(tensor), tensor.data_ptr(), std::make_shared<const Tensor>(tensor.detach())};
}
PlainTensor writable(Tensor& tensor) {
  return tensor.defined() ? PlainTensor{element_type(tensor), tensor.data_ptr()} : PlainTensor{};
}

// These convert [N, C, H, W] in any layout to contiguous [N, H, W, C] and back; neither copies channels-last memory.
Tensor channels_last(const Tensor& nchw) { return nchw.permute({0, 2, 3, 1}).contiguous(); }
Tensor channels_first_view(const Tensor& nhwc) { return nhwc.permute({0, 3, 1, 2}); }

/// Keeps a forward call's state in the graph, and the layer with it.
struct CallHolder : torch::CustomClassHolder {
  CallHolder(std::shared_ptr<BilinearProduct> owner, BilinearProduct::UniqueCall state,
             std::shared_ptr<DeferredNorm> applied = nullptr)
      : layer(std::move(owner)), call(std::move(state)), norm(std::move(applied)) {}
  std::shared_ptr<BilinearProduct> layer;
  BilinearProduct::UniqueCall call;
  std::shared_ptr<DeferredNorm> norm;
};

c10::intrusive_ptr<CallHolder> saved_call(AutogradContext* ctx) {
  return c10::static_intrusive_pointer_cast<CallHolder>(ctx->saved_data["call"].toCapsule());
}
void save_call(AutogradContext* ctx, c10::intrusive_ptr<CallHolder> holder) {
  ctx->saved_data["call"] = c10::IValue::make_capsule(std::move(holder));
}

/// The state of a forward call that has not been differentiated yet.
BilinearProduct::Call& open_call(CallHolder& holder) {
  if (torch::GradMode::is_enabled())
    throw InputError(
        "offload: backward with create_graph: gradients of blinded products cannot be differentiated again");
  if (!holder.call)
    throw InputError(
        "offload: a second backward over one forward: its operands have left the worker; run forward again");
  return *holder.call;
}

/// Lets LibTorch refuse a backward pass over operands that were changed in place and are read again.
void guard_operands(AutogradContext* ctx, const BilinearProduct& product, const Tensor& a, const Tensor& b) {
  if (product.keeps_operands())
    ctx->save_for_backward({a, b});
  else if (product.sends_second_again())
    ctx->save_for_backward({b});
}

void check_operands(const std::string& layer, const Tensor& a, const Tensor& b, bool fit) {
  if (fit && a.device().is_cpu() && b.device().is_cpu() && a.scalar_type() == b.scalar_type()) return;
  throw InputError(
      fmt::format("layer {}: operands {} [{}] and {} [{}] do not fit, expected CPU tensors of one type and of "
                  "the layer's shape",
                  layer, c10::toString(a.scalar_type()), fmt::join(a.sizes(), ", "), c10::toString(b.scalar_type()),
                  fmt::join(b.sizes(), ", ")));
}

/// y = x * w, with x [N, H, W, in] and w [out, kh, kw, in]. A linear layer is the pointwise case. `y_shape` may be any
/// shape with as many elements; y is made in it at once because changing a view of y in place would copy. The second
/// result is x itself. With a norm in `taps`, whose weight and bias are passed too, y = activation(norm(x)) * w.
struct ProductFunction : torch::autograd::Function<ProductFunction> {
  static variable_list forward(AutogradContext* ctx, const Tensor& x, const Tensor& w,
                               const c10::optional<Tensor>& /*norm_weight*/, const c10::optional<Tensor>& /*norm_bias*/,
                               const std::shared_ptr<BilinearProduct>& layer, const std::vector<int64_t>& y_shape,
                               const LayerTaps& taps) {
    BilinearProduct& product = *layer;
    const auto& g = product.geometry();
    check_operands(
        product.layer(), x, w,
        x.dim() == 4 && x.size(3) == g.in && w.sizes() == at::IntArrayRef({g.out, g.kernel_h, g.kernel_w, g.in}));
    Tensor y = torch::empty(y_shape, x.options());
    auto call = product.forward(offload::ImageShape{x.size(0), x.size(1), x.size(2)},
                                {view(x), view(w), taps.norm ? taps.norm->map() : nullptr},
                                {writable(y), moments(taps.moments.get())});
    ctx->saved_data["x_shape"] = x.sizes().vec();
    ctx->saved_data["w_shape"] = w.sizes().vec();
    ctx->saved_data["want_dx"] = x.requires_grad() || taps.norm;
    ctx->saved_data["want_dw"] = w.requires_grad();
    guard_operands(ctx, product, x, w);
    save_call(ctx, c10::make_intrusive<CallHolder>(layer, std::move(call), taps.norm));
    ctx->set_materialize_grads(false);
    return {y, x};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto holder = saved_call(ctx);
    BilinearProduct& product = *holder->layer;
    if (!gradients[0].defined()) return {gradients[1], {}, {}, {}, {}, {}, {}};  // nothing read y
    const Tensor dy = gradients[0].contiguous(), addend = gradients[1].defined() ? gradients[1].contiguous() : Tensor();
    static_cast<void>(ctx->get_saved_variables());  // throws if they were changed
    const bool want_dw = ctx->saved_data["want_dw"].toBool();
    Tensor dx, dw;
    if (ctx->saved_data["want_dx"].toBool()) dx = torch::empty(ctx->saved_data["x_shape"].toIntVector(), dy.options());
    if (want_dw && !product.parameter()->keeps_gradient())
      dw = torch::empty(ctx->saved_data["w_shape"].toIntVector(), dy.options());
    product.backward(open_call(*holder), view(dy), {writable(dx), writable(dw), want_dw, view(addend)});
    holder->call.reset();  // frees the worker's copies
    const auto norm = std::exchange(holder->norm, nullptr);
    if (!norm) return {dx, dw, {}, {}, {}, {}, {}};
    const auto of_norm = norm->backward(channels_first_view(dx));
    return {channels_last(of_norm.dx), dw, of_norm.dweight, of_norm.dbias, {}, {}, {}};
  }

 private:
  static obfuscation::PixelMoments moments(ResultMoments* of) {
    if (of == nullptr) return {};
    of->sums.resize(of->shift.size());
    of->squares.resize(of->shift.size());
    return {of->shift.data(), of->sums.data(), of->squares.data()};
  }
};

struct MatmulFunction : torch::autograd::Function<MatmulFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& a, const Tensor& b,
                        const std::shared_ptr<BilinearProduct>& layer) {
    check_operands(layer->layer(), a, b,
                   a.dim() == 3 && b.dim() == 3 && a.size(0) == b.size(0) && a.size(2) == b.size(1));
    Tensor c = torch::empty({a.size(0), a.size(1), b.size(2)}, a.options());
    auto call = layer->forward(offload::BatchShape{a.size(0), a.size(1), a.size(2), b.size(2)}, {view(a), view(b)},
                               {writable(c)});
    ctx->saved_data["a_shape"] = a.sizes().vec();
    ctx->saved_data["b_shape"] = b.sizes().vec();
    guard_operands(ctx, *layer, a, b);
    save_call(ctx, c10::make_intrusive<CallHolder>(layer, std::move(call)));
    return c;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto holder = saved_call(ctx);
    const Tensor dc = gradients[0].contiguous();
    static_cast<void>(ctx->get_saved_variables());  // throws if they were changed
    Tensor da = torch::empty(ctx->saved_data["a_shape"].toIntVector(), dc.options());
    Tensor db = torch::empty(ctx->saved_data["b_shape"].toIntVector(), dc.options());
    holder->layer->backward(open_call(*holder), view(dc), {writable(da), writable(db)});
    holder->call.reset();
    return {da, db, Variable()};
  }
};

}  // namespace

Tensor offloaded_conv2d(const std::shared_ptr<BilinearProduct>& layer, const Tensor& x, const Tensor& weight,
                        const Tensor& bias, const LayerTaps& taps) {
  const std::vector<int64_t> shape = {x.size(0), layer->out_height(x.size(2)), layer->out_width(x.size(3)),
                                      layer->geometry().out};
  using OptionalTensor = c10::optional<Tensor>;
  const variable_list results = ProductFunction::apply(
      channels_last(x), channels_last(weight), taps.norm ? OptionalTensor(taps.norm->weight()) : OptionalTensor(),
      taps.norm ? OptionalTensor(taps.norm->bias()) : OptionalTensor(), layer, shape, taps);
  if (taps.skip != nullptr) *taps.skip = channels_first_view(results[1]);
  return channels_first_view(add_bias_(results[0], bias));
}

Tensor offloaded_linear(const std::shared_ptr<BilinearProduct>& layer, const Tensor& x, const Tensor& weight,
                        const Tensor& bias) {
  const int64_t in = weight.size(1), out = weight.size(0);
  auto shape = x.sizes().vec();
  shape.back() = out;
  const variable_list results =
      ProductFunction::apply(x.reshape({-1, 1, 1, in}).contiguous(), weight.view({out, 1, 1, in}).contiguous(),
                             c10::optional<Tensor>(), c10::optional<Tensor>(), layer, shape, LayerTaps());
  return add_bias_(results[0], bias);
}

Tensor offloaded_matmul(const std::shared_ptr<BilinearProduct>& layer, const Tensor& a, const Tensor& b) {
  return MatmulFunction::apply(a.contiguous(), b.contiguous(), layer);
}

bool fetch_resident(BilinearProduct& layer, Tensor& weight, Tensor velocity) {
  const torch::NoGradGuard no_grad;
  const auto& g = layer.geometry();
  const auto staging = [&] { return torch::empty({g.out, g.kernel_h, g.kernel_w, g.in}, weight.options()); };
  const auto copy_back = [](const Tensor& from, Tensor& to) {
    to.copy_(to.dim() == 4 ? channels_first_view(from) : from.view_as(to));
  };
  Tensor plain_weight = staging(), plain_velocity = velocity.defined() ? staging() : Tensor();
  if (!layer.parameter()->fetch(writable(plain_weight), writable(plain_velocity))) return false;
  copy_back(plain_weight, weight);
  if (velocity.defined()) copy_back(plain_velocity, velocity);
  return true;
}

void start_resident(BilinearProduct& layer, const Tensor& weight, const Tensor& velocity, uint64_t step) {
  const torch::NoGradGuard no_grad;
  const auto dense = [](const Tensor& tensor) {
    return tensor.dim() == 4 ? channels_last(tensor) : tensor.contiguous();
  };
  const Tensor dense_weight = dense(weight), dense_velocity = dense(velocity);
  layer.parameter()->start(view(dense_weight), view(dense_velocity), step);
}

}  // namespace tempo::nn
