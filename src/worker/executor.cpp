#include "worker/executor.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <unordered_map>
#include <unordered_set>

#include "tempo/error.h"
#include "worker/collective.h"

namespace tempo::worker {

using offload::Buffer;
using offload::ElementType;
using offload::OperandId;
using offload::Product;
using offload::ProductKind;

namespace {

at::ScalarType scalar_type(ElementType type) {
  switch (type) {
    case ElementType::kFloat32:
      return at::kFloat;
    case ElementType::kFloat64:
      return at::kDouble;
    case ElementType::kBFloat16:
      return at::kBFloat16;
  }
  throw ProtocolError("worker: unknown element type");
}

ElementType element_type(at::ScalarType type) {
  if (type == at::kFloat) return ElementType::kFloat32;
  if (type == at::kDouble) return ElementType::kFloat64;
  return ElementType::kBFloat16;
}

at::Tensor to_tensor(const Buffer& buffer, const at::Device& device) {
  auto owner = buffer.owner();
  at::Tensor tensor = torch::from_blob(
      buffer.data(), buffer.spec().shape, [owner](void*) {}, at::TensorOptions(scalar_type(buffer.spec().type)));
  return tensor.to(device);
}

Buffer to_buffer(const at::Tensor& result, ElementType type) {
  at::Tensor tensor = result.to(at::kCPU, scalar_type(type)).contiguous();
  std::shared_ptr<std::byte> data(static_cast<std::byte*>(tensor.data_ptr()), [tensor](std::byte*) {});
  return {{.type = type, .shape = tensor.sizes().vec()}, std::move(data)};
}

/// The reply where a tensor stays here.
Buffer squared_norm(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.flatten().to(at::kDouble);
  return to_buffer(flat.dot(flat).view({1}), ElementType::kFloat64);
}

Buffer nothing() { return Buffer::allocate({.type = ElementType::kFloat32, .shape = {0}}); }

/// Operands narrower than float32 are widened: products accumulate in float32 at least.
at::Tensor widened(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kBFloat16 ? tensor.to(at::kFloat) : tensor;
}

at::Tensor to_nchw(const at::Tensor& nhwc) { return nhwc.permute({0, 3, 1, 2}); }
at::Tensor to_nhwc(const at::Tensor& nchw) { return nchw.permute({0, 2, 3, 1}); }

at::Tensor forward(const Product& p, const at::Tensor& x, const at::Tensor& w) {
  switch (p.kind) {
    case ProductKind::kLinear:
      return x.matmul(w.flatten(1).t());
    case ProductKind::kConv2d:
      return to_nhwc(at::conv2d(to_nchw(x), to_nchw(w), {}, {p.stride_h, p.stride_w}, at::IntArrayRef{0, 0},
                                {p.dilation_h, p.dilation_w}));
    case ProductKind::kMatmul:
      return x.bmm(w);
  }
  throw ProtocolError("worker: unknown product");
}

/// One of the two gradients of a convolution; the operand whose gradient is wanted matters by its shape alone.
at::Tensor convolution_gradient(const Product& p, const at::Tensor& dy, const at::Tensor& x, const at::Tensor& w,
                                bool of_input) {
  auto gradients =
      at::convolution_backward(to_nchw(dy), to_nchw(x), to_nchw(w), at::OptionalIntArrayRef(), {p.stride_h, p.stride_w},
                               {0, 0}, {p.dilation_h, p.dilation_w}, false, {0, 0}, 1, {of_input, !of_input, false});
  return to_nhwc(of_input ? std::get<0>(gradients) : std::get<1>(gradients));
}

at::Tensor input_gradient(const Product& p, const at::Tensor& dy, const at::Tensor& w, at::IntArrayRef x_shape) {
  switch (p.kind) {
    case ProductKind::kLinear:
      return dy.matmul(w.flatten(1));
    case ProductKind::kConv2d:
      return convolution_gradient(p, dy, at::empty(x_shape, dy.options()), w, true);
    case ProductKind::kMatmul:
      return dy.bmm(w.transpose(1, 2));
  }
  throw ProtocolError("worker: unknown product");
}

at::Tensor weight_gradient(const Product& p, const at::Tensor& x, const at::Tensor& dy, at::IntArrayRef w_shape) {
  switch (p.kind) {
    case ProductKind::kLinear:
      return dy.t().matmul(x).view(w_shape);
    case ProductKind::kConv2d:
      return convolution_gradient(p, dy, x, at::empty(w_shape, dy.options()), false);
    case ProductKind::kMatmul:
      return x.transpose(1, 2).bmm(dy);
  }
  throw ProtocolError("worker: unknown product");
}

}  // namespace

struct Executor::State {
  at::Device device;
  std::unordered_map<OperandId, at::Tensor> store;
  std::unordered_map<OperandId, uint64_t> updated_at;  // last step applied to a resident weight
  std::unordered_set<OperandId> lent;                  // others may read this memory: not to be changed in place
  std::shared_ptr<Collective> collective;              // null: no sums with other workers
  std::unique_ptr<WorkerGroup> group;                  // null: in none

  const at::Tensor& operand(OperandId id) const {
    const auto found = store.find(id);
    if (found == store.end()) throw ProtocolError(fmt::format("worker: operand {} is not stored", id));
    return found->second;
  }

  Buffer run(const offload::Forward& op) {
    return to_buffer(forward(op.product, widened(operand(op.x)), widened(operand(op.w))), op.reply_type);
  }

  Buffer run(const offload::InputGradient& op) {
    return to_buffer(input_gradient(op.product, widened(operand(op.dy)), widened(operand(op.w)), op.x_shape),
                     op.reply_type);
  }

  Buffer run(const offload::WeightGradient& op) {
    const at::Tensor dw =
        weight_gradient(op.product, widened(operand(op.x)), widened(operand(op.dy)), op.w_shape).contiguous();
    if (op.keep_as == 0) return to_buffer(dw, op.reply_type);
    Buffer norm = squared_norm(dw);
    store[op.keep_as] = dw;
    return norm;
  }

  Buffer run(const offload::Update& op) {
    at::Tensor w = operand(op.w), velocity = operand(op.velocity);
    const at::Tensor dw = operand(op.dw);
    TORCH_CHECK(w.sizes() == dw.sizes() && w.sizes() == velocity.sizes(), "update of a weight of another shape");
    const auto applied = updated_at.find(op.w);
    if (applied == updated_at.end() || applied->second < op.step) {
      make_own(op.w, w);
      make_own(op.velocity, velocity);
      updated_at[op.w] = op.step;
      velocity.mul_(op.momentum).add_(dw, op.gradient_scale).add_(w, op.weight_decay);
      w.sub_(velocity, op.learning_rate);
    }
    return nothing();
  }

  Buffer run(const offload::Fetch& op) {
    const at::Tensor& tensor = operand(op.operand);
    lent.insert(op.operand);
    return to_buffer(tensor, element_type(tensor.scalar_type()));
  }

  /// What was put or fetched stays as it was: whoever has it may read it later.
  void make_own(OperandId id, at::Tensor& tensor) {
    if (lent.count(id) == 0) return;
    store[id] = tensor = tensor.clone();
    lent.erase(id);
  }

  Buffer run(const offload::JoinGroup& op) {
    group.reset();
    if (collective == nullptr)
      throw ProtocolError("worker: join_group refused: this worker takes no part in sums (tempo-worker --collective)");
    group = collective->join(op, device.str());
    return nothing();
  }

  Buffer run(const offload::AllReduce& op) {
    if (group == nullptr) throw ProtocolError("worker: all_reduce refused: the session is in no group");
    const auto found = store.find(op.operand);
    // The others must learn that there is none.
    const at::Tensor sum = group->sum(found == store.end() ? at::Tensor() : found->second);
    Buffer norm = squared_norm(sum);
    store[op.operand] = sum;
    return norm;
  }
};

Executor::Executor(const std::string& device, std::shared_ptr<Collective> collective) {
  try {
    state_ = std::make_unique<State>(State{.device = at::Device(device),
                                           .store = {},
                                           .updated_at = {},
                                           .lent = {},
                                           .collective = std::move(collective),
                                           .group = nullptr});
    at::empty({1}, at::TensorOptions(state_->device));
    // TF32 keeps 10 bits of a float32 operand: products would silently be 1e-3 off.
    at::globalContext().setAllowTF32CuDNN(false);
    at::globalContext().setAllowTF32CuBLAS(false);
  } catch (const c10::Error&) {
    throw InputError(
        fmt::format("device: got \"{}\", expected cpu, or cuda:N with a GPU and a LibTorch that has CUDA", device));
  }
}

Executor::~Executor() = default;

void Executor::put(OperandId id, Buffer operand) {
  state_->store[id] = to_tensor(operand, state_->device);
  state_->lent.insert(id);
  state_->updated_at.erase(id);
}

void Executor::free(const std::vector<OperandId>& ids) {
  for (const OperandId id : ids) {
    state_->store.erase(id);
    state_->lent.erase(id);
    state_->updated_at.erase(id);
  }
}

Buffer Executor::run(const offload::Operation& operation) {
  const torch::NoGradGuard no_grad;
  try {
    return std::visit([this](const auto& op) { return state_->run(op); }, operation);
  } catch (const c10::Error& error) {
    throw ProtocolError(
        fmt::format("worker: {} refused: {}", offload::operation_name(operation), error.what_without_backtrace()));
  }
}

uint64_t Executor::stored_bytes() const {
  uint64_t bytes = 0;
  for (const auto& [id, tensor] : state_->store) bytes += tensor.nbytes();
  return bytes;
}

void Executor::set_threads(int threads) { at::set_num_threads(threads); }

std::string Executor::default_device() { return torch::cuda::is_available() ? "cuda:0" : "cpu"; }

std::string Executor::version() {
  return fmt::format("LibTorch {}.{}.{}", TORCH_VERSION_MAJOR, TORCH_VERSION_MINOR, TORCH_VERSION_PATCH);
}

}  // namespace tempo::worker
