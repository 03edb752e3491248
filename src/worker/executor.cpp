#include "worker/executor.h"

#include <fmt/format.h>
#include <torch/cuda.h>
#include <torch/types.h>
#include <torch/utils.h>
#include <torch/version.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "tempo/error.h"
#include "worker/collective.h"
#include "worker/device_queues.h"

namespace tempo::worker {

using contract::Buffer;
using contract::ElementType;
using contract::OperandId;
using contract::Product;
using contract::ProductKind;

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

/// The memory, which the tensor holds on to.
at::Tensor view_of(const Buffer& buffer) {
  auto owner = buffer.owner();
  return torch::from_blob(
      buffer.data(), buffer.spec().shape, [owner](void*) {}, at::TensorOptions(scalar_type(buffer.spec().type)));
}

/// What an operation replies: a tensor of this type, in this layout.
struct Result {
  at::Tensor tensor;
  ElementType type = ElementType::kFloat32;
  contract::PanelLayout panels = {};

  [[nodiscard]] contract::TensorSpec spec() const {
    return {.type = type, .shape = tensor.sizes().vec(), .panels = panels};
  }
};

Buffer buffer_of(const contract::TensorSpec& spec, const at::Tensor& tensor) {
  std::shared_ptr<std::byte> data(static_cast<std::byte*>(tensor.data_ptr()), [tensor](std::byte*) {});
  return {spec, std::move(data)};
}

/// Calls `f` with views of each block of a tensor's rows, as [rows, panels, width], in row-major layout and in panels.
template <typename F>
void for_each_block(const at::Tensor& rows, const at::Tensor& in_panels, const contract::PanelLayout& layout,
                    const F& f) {
  const int64_t count = rows.size(0);
  if (rows.numel() == 0) return;
  const int64_t panels = rows.numel() / count / layout.width;
  const at::Tensor all = rows.view({count, panels, layout.width}), flat = in_panels.view({-1});
  for (int64_t first = 0; first < count; first += layout.rows) {
    const int64_t some = std::min(layout.rows, count - first), row = panels * layout.width;
    f(all.narrow(0, first, some),
      flat.narrow(0, first * row, some * row).view({panels, some, layout.width}).transpose(0, 1));
  }
}

at::Tensor from_panels(const at::Tensor& in_panels, const contract::PanelLayout& layout) {
  if (!layout.is_set()) return in_panels;
  at::Tensor rows = at::empty_like(in_panels);
  for_each_block(rows, in_panels, layout, [](at::Tensor to, const at::Tensor& from) { to.copy_(from); });
  return rows;
}

/// Writes a tensor into memory of its size, in the layout and type of that memory.
void write_in_layout(const at::Tensor& tensor, const contract::PanelLayout& layout, const at::Tensor& to) {
  if (!layout.is_set()) {
    to.copy_(tensor);
    return;
  }
  for_each_block(tensor.contiguous(), to, layout, [](const at::Tensor& from, at::Tensor block) { block.copy_(from); });
}

/// The reply where a tensor stays here.
Result squared_norm(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.flatten().to(at::kDouble);
  return {.tensor = flat.dot(flat).view({1}), .type = ElementType::kFloat64};
}

Result nothing() { return {.tensor = at::empty({0}, at::kFloat)}; }

/// A result as it is replied, in memory that may be its own.
at::Tensor in_layout(const Result& result) {
  const at::ScalarType type = scalar_type(result.type);
  if (!result.panels.is_set()) return result.tensor.to(type).contiguous();
  at::Tensor out = at::empty(result.tensor.sizes(), result.tensor.options().dtype(type));
  write_in_layout(result.tensor, result.panels, out);
  return out;
}

at::Tensor widened(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kBFloat16 ? tensor.to(at::kFloat) : tensor;
}

/// An operand in the type that its product is computed in.
at::Tensor as_factor(const at::Tensor& tensor, const Product& product) {
  const bool is_narrow = product.precision == contract::ProductPrecision::kBFloat16;
  return is_narrow && tensor.scalar_type() == at::kFloat ? tensor.to(at::kBFloat16)
         : is_narrow                                     ? tensor
                                                         : widened(tensor);
}

/// Lets float32 products round to TF32 or not while they are started. The setting is of the process: products of
/// several sessions are started one after the other.
class ScopedTf32 {
 public:
  ScopedTf32(const at::Device& device, contract::ProductPrecision precision) {
    if (!device.is_cuda()) return;
    lock_ = std::unique_lock(mutex());
    set(precision == contract::ProductPrecision::kTf32);
  }
  static void forbid() {
    const std::lock_guard lock(mutex());
    set(false);
  }

 private:
  static void set(bool allowed) {
    at::globalContext().setAllowTF32CuDNN(allowed);
    at::globalContext().setAllowTF32CuBLAS(allowed);
  }
  static std::mutex& mutex() {
    static std::mutex of_process;
    return of_process;
  }
  std::unique_lock<std::mutex> lock_;
};

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
  std::unique_ptr<DeviceQueues> queues;                // null: the device is the host

  const at::Tensor& operand(OperandId id) const {
    const auto found = store.find(id);
    if (found == store.end()) throw ProtocolError(fmt::format("worker: operand {} is not stored", id));
    return found->second;
  }

  [[nodiscard]] at::Tensor factor(OperandId id, const Product& product) const {
    return as_factor(operand(id), product);
  }

  Result run(const contract::Forward& op) {
    const ScopedTf32 tf32(device, op.product.precision);
    return {forward(op.product, factor(op.x, op.product), factor(op.w, op.product)), op.reply_type, op.reply_panels};
  }

  Result run(const contract::InputGradient& op) {
    const ScopedTf32 tf32(device, op.product.precision);
    return {input_gradient(op.product, factor(op.dy, op.product), factor(op.w, op.product), op.x_shape), op.reply_type,
            op.reply_panels};
  }

  Result run(const contract::WeightGradient& op) {
    const ScopedTf32 tf32(device, contract::ProductPrecision::kFloat32);
    const auto is_like = [this](OperandId part, OperandId first) {
      const at::Tensor &a = operand(part), &b = operand(first);
      return a.dim() == b.dim() && a.dim() > 0 && a.sizes().slice(1) == b.sizes().slice(1);
    };
    for (const contract::RowPart& part : op.further)
      TORCH_CHECK(is_like(part.x, op.x) && is_like(part.dy, op.dy), "parts of rows of another shape");
    at::Tensor dw = weight_gradient_of(op, {op.x, op.dy});
    for (const contract::RowPart& part : op.further) dw.add_(weight_gradient_of(op, part));
    if (op.keep_as == 0) return {.tensor = dw, .type = op.reply_type};
    Result norm = squared_norm(dw);
    store[op.keep_as] = dw;
    return norm;
  }

  /// The result of some rows: float32 at least, and nobody else's.
  [[nodiscard]] at::Tensor weight_gradient_of(const contract::WeightGradient& op, const contract::RowPart& rows) const {
    return weight_gradient(op.product, widened(operand(rows.x)), widened(operand(rows.dy)), op.w_shape).contiguous();
  }

  Result run(const contract::Update& op) {
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

  Result run(const contract::Fetch& op) {
    const at::Tensor& tensor = operand(op.operand);
    // A copy from a device reads it while later operations may change it.
    if (queues != nullptr) return {.tensor = tensor.clone(), .type = element_type(tensor.scalar_type())};
    lent.insert(op.operand);
    return {.tensor = tensor, .type = element_type(tensor.scalar_type())};
  }

  /// What was put or fetched stays as it was: whoever has it may read it later.
  void make_own(OperandId id, at::Tensor& tensor) {
    if (lent.count(id) == 0) return;
    store[id] = tensor = tensor.clone();
    lent.erase(id);
  }

  Result run(const contract::JoinGroup& op) {
    group.reset();
    if (collective == nullptr)
      throw ProtocolError("worker: join_group refused: this worker takes no part in sums (tempo-worker --collective)");
    group = collective->join(op, device.str());
    return nothing();
  }

  Result run(const contract::AllReduce& op) {
    if (group == nullptr) throw ProtocolError("worker: all_reduce refused: the session is in no group");
    const auto found = store.find(op.operand);
    // The others must learn that there is none.
    if (queues != nullptr) queues->wait();  // sums run on streams of their own
    const at::Tensor sum = group->sum(found == store.end() ? at::Tensor() : found->second);
    if (queues != nullptr) queues->wait();
    Result norm = squared_norm(sum);
    store[op.operand] = sum;
    return norm;
  }

  /// Brings a result to the host.
  Started deliver(const Result& result, const Place& place) const {
    const contract::TensorSpec spec = result.spec();
    contract::check_panels(spec);
    std::optional<Buffer> there;
    if (place) there = place(spec);
    if (queues == nullptr || result.tensor.is_cpu()) {
      if (there) {
        write_in_layout(result.tensor, result.panels, view_of(*there));
        return {*std::move(there), {}};
      }
      return {buffer_of(spec, in_layout(result)), {}};
    }
    const at::Tensor from = in_layout(result);
    if (!there) there = Buffer::allocate(spec);
    Completion completion = queues->download(from, view_of(*there));
    return {*std::move(there), std::move(completion)};
  }
};

Executor::Executor(const std::string& device, std::shared_ptr<Collective> collective) {
  try {
    state_ = std::make_unique<State>(State{.device = at::Device(device),
                                           .store = {},
                                           .updated_at = {},
                                           .lent = {},
                                           .collective = std::move(collective),
                                           .group = nullptr,
                                           .queues = make_device_queues(at::Device(device))});
    at::empty({1}, at::TensorOptions(state_->device));
    ScopedTf32::forbid();
    at::globalContext().setBenchmarkCuDNN(true);  // a layer's shapes stay the same
#if TORCH_VERSION_MAJOR >= 2
    at::globalContext().setAllowBF16ReductionCuBLAS(false);
#endif
  } catch (const c10::Error&) {
    throw InputError(
        fmt::format("device: got \"{}\", expected cpu, or cuda:N with a GPU and a LibTorch that has CUDA", device));
  }
}

Executor::~Executor() = default;

Completion Executor::put(OperandId id, Buffer operand) {
  state_->updated_at.erase(id);
  const contract::PanelLayout panels = operand.spec().panels;
  contract::check_panels(operand.spec());
  const at::Tensor tensor = view_of(operand);
  if (state_->queues == nullptr) {
    state_->store[id] = from_panels(tensor, panels).to(state_->device);
    panels.is_set() ? void(state_->lent.erase(id)) : void(state_->lent.insert(id));
    return {};
  }
  state_->lent.erase(id);
  auto [copy, done] = state_->queues->upload(tensor);
  const c10::StreamGuard products(state_->queues->products());
  state_->store[id] = from_panels(copy, panels);
  return done;
}

void Executor::free(const std::vector<OperandId>& ids) {
  for (const OperandId id : ids) {
    state_->store.erase(id);
    state_->lent.erase(id);
    state_->updated_at.erase(id);
  }
}

Started Executor::start(const contract::Operation& operation, const Place& place) {
  const torch::NoGradGuard no_grad;
  try {
    c10::OptionalStreamGuard guard;
    if (state_->queues != nullptr) guard.reset_stream(state_->queues->products());
    const Result result = std::visit([this](const auto& op) { return state_->run(op); }, operation);
    return state_->deliver(result, place);
  } catch (const c10::Error& error) {
    throw ProtocolError(
        fmt::format("worker: {} refused: {}", contract::operation_name(operation), error.what_without_backtrace()));
  }
}

Buffer Executor::run(const contract::Operation& operation) {
  const Started started = start(operation, {});
  if (started.completion) started.completion();
  return started.result;
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
