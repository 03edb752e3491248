/// The contract between the trusted master and an untrusted worker: operands in, products out.
/// A worker only ever sees blinded operands, shapes, and these operations. No tensor library is needed to implement it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <variant>
#include <vector>

namespace tempo::contract {

enum class ElementType : uint8_t { kFloat32 = 0, kFloat64 = 1, kBFloat16 = 2 };
size_t element_bytes(ElementType type);
const char* element_name(ElementType type);

/// The layout of a tensor in panels. A row is everything behind an index of the first dimension. Rows are cut into
/// blocks of `rows` (the last may be shorter), which lie one after the other, and the elements of a row into panels of
/// `width`. In a block of n rows, panel p of row r lies at elements (p * n + r) * width. Width 0 stands for row-major
/// tensors.
struct PanelLayout {
  int64_t width = 0;
  int64_t rows = 0;

  static constexpr int64_t kUnit = 16, kMostWidth = 64;  ///< width: multiples of kUnit, up to kMostWidth
  static constexpr int64_t kRowUnit = 256, kMostRows = int64_t{1} << 16;  ///< rows: likewise
  [[nodiscard]] bool is_set() const { return width != 0; }
  friend bool operator==(const PanelLayout&, const PanelLayout&) = default;
};

/// Shape, element type and layout; contiguous.
struct TensorSpec {
  ElementType type = ElementType::kFloat32;
  std::vector<int64_t> shape;
  PanelLayout panels = {};

  [[nodiscard]] int64_t elements() const;
  [[nodiscard]] size_t bytes() const;
  friend bool operator==(const TensorSpec&, const TensorSpec&) = default;
};
/// @throws ProtocolError unless the panels of the spec are of an allowed size and fill its last dimension.
void check_panels(const TensorSpec& spec);
/// For messages: "float32[64, 8, 8, 256]", "float32[64, 256] in panels of 32 by 4096 rows".
std::string to_string(const TensorSpec& spec);

/// Memory that holds one operand or one result. Copies share the memory. Where it lies is the transport's business.
class Buffer {
 public:
  Buffer() = default;
  /// @param is_shared the worker can still change the memory: what was checked must be what is used.
  Buffer(TensorSpec spec, std::shared_ptr<std::byte> data, bool is_shared = false)
      : spec_(std::move(spec)), data_(std::move(data)), is_shared_(is_shared) {}
  /// Ordinary memory, 64-byte aligned, not initialised.
  static Buffer allocate(TensorSpec spec);

  [[nodiscard]] const TensorSpec& spec() const { return spec_; }
  [[nodiscard]] std::byte* data() const { return data_.get(); }
  [[nodiscard]] const std::shared_ptr<std::byte>& owner() const { return data_; }
  [[nodiscard]] size_t bytes() const { return spec_.bytes(); }
  [[nodiscard]] bool is_shared() const { return is_shared_; }

 private:
  TensorSpec spec_;
  std::shared_ptr<std::byte> data_;
  bool is_shared_ = false;
};

/// The tensor in row-major layout: a copy, unless it is so already.
Buffer row_major(const Buffer& tensor);

/// Names an operand in a worker's store; chosen by the master, never reused within a session.
using OperandId = uint64_t;

/// The bilinear products a worker knows.
///   kLinear  x [rows, in]            w [out, in...]         y [rows, out]            y = x w^T, w's taps and inputs
///   flattened kConv2d  x [rows, h, w, in]      w [out, kh, kw, in]    y [rows, oh, ow, out]    unpadded, channels last
///   kMatmul  x [batch, n, d]         w [batch, d, m]        y [batch, n, m]          y = x w
enum class ProductKind : uint8_t { kLinear = 0, kConv2d = 1, kMatmul = 2 };

/// What a product may round its operands to; sums are of float32 at least. Neither operands of float64 nor those of
/// weight gradients, where many rows would round alike, are rounded. A worker may be more precise: TF32 is there on
/// GPUs alone.
///   kTf32      11 bits of float32
///   kBFloat16  8 bits, of the result too
enum class ProductPrecision : uint8_t { kFloat32 = 0, kTf32 = 1, kBFloat16 = 2 };

struct Product {
  ProductKind kind = ProductKind::kLinear;
  int64_t stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;  ///< kConv2d only
  ProductPrecision precision = ProductPrecision::kFloat32;
};

/// y = x * w. Both operands stay stored. The reply is y.
struct Forward {
  Product product;
  OperandId x = 0, w = 0;
  ElementType reply_type = ElementType::kFloat32;
  PanelLayout reply_panels = {};
};
/// dx = dy * w^T: the gradient of the first operand. The reply is dx, of shape `x_shape`.
struct InputGradient {
  Product product;
  OperandId dy = 0, w = 0;
  std::vector<int64_t> x_shape;
  ElementType reply_type = ElementType::kFloat32;
  PanelLayout reply_panels = {};
};
/// Some rows of the two operands of a weight gradient, which were put as operands of their own.
struct RowPart {
  OperandId x = 0, dy = 0;
};
constexpr size_t kMaxRowParts = 64;  ///< of one weight gradient
/// dw = x^T * dy: the gradient of the second operand, of shape `w_shape`. Where rows came as several operands, the sum
/// over x, dy and `further`.
/// With `keep_as` != 0 dw stays on the worker under that id and the reply is its squared Frobenius norm, float64[1].
struct WeightGradient {
  Product product;
  OperandId x = 0, dy = 0;
  std::vector<int64_t> w_shape;
  ElementType reply_type = ElementType::kFloat32;
  OperandId keep_as = 0;
  std::vector<RowPart> further = {};
};
/// One SGD step on a resident weight:  g = gradient_scale * dw + weight_decay * w;  v = momentum * v + g;  w -= lr * v.
/// `step` makes it idempotent: an update whose step is not above the last one applied to `w` changes nothing.
/// The reply is empty, float32[0].
struct Update {
  OperandId w = 0, velocity = 0, dw = 0;
  uint64_t step = 0;
  double learning_rate = 0, momentum = 0, weight_decay = 0, gradient_scale = 1;
};
/// The reply is a copy of the operand, row-major.
struct Fetch {
  OperandId operand = 0;
};

/// Joins a group of workers that sum operands among themselves. Whatever group the session was in before is left first.
/// The worker of rank 0 has the rendezvous: `rendezvous` is its `WorkerDescription::collective`, given to all members.
/// Waits until all have joined: submit it to all before waiting for any. Refused by a worker that takes no part in
/// sums, that does not know the host of the rendezvous as one of its peers, and where the members do not find each
/// other in the worker's time limit; the session is in no group then. The reply is empty, float32[0].
struct JoinGroup {
  std::string rendezvous;  ///< HOST:PORT
  std::string group;  ///< a fresh random name: who knows it can enter, and a stale member does not. Printable ASCII
  uint32_t rank = 0, size = 0;
};
constexpr size_t kMaxCollectiveText = 255;  ///< bytes of a rendezvous, of a group's name
constexpr uint32_t kMaxGroupSize = 256;

/// Sums an operand over the session's group and puts the sum, the same bits everywhere, in its place. All members
/// submit it, in the same order; each names its own operand, float32 or float64, of one shape and type for all.
/// Refused with the operand unchanged, either by all alike, and the group goes on: operands that differ, or that a
/// member does not have; or because a member is gone or silent for the worker's time limit, and then this member's
/// group is over. A member that was lost at the wrong moment can leave some with the sum and others without: after any
/// refusal the master takes no member's operand as summed. The reply is the squared Frobenius norm of the sum,
/// float64[1].
struct AllReduce {
  OperandId operand = 0;
};

using Operation = std::variant<Forward, InputGradient, WeightGradient, Update, Fetch, JoinGroup, AllReduce>;
const char* operation_name(const Operation& operation);

struct WorkerDescription {
  std::string name;     ///< for messages and metrics, e.g. "inprocess:"
  std::string device;   ///< "cpu", "cuda:0"
  std::string version;  ///< of the worker's software
  uint64_t memory_bytes = 0;
  std::string collective;  ///< HOST:PORT for `JoinGroup::rendezvous`, as the worker says; "": it takes no part in sums
};

/// One worker. Calls of one master are carried out in the order in which they were made.
/// Everything that comes back is untrusted: the caller checks shape, type and values.
class Worker {
 public:
  virtual ~Worker() = default;

  virtual WorkerDescription describe() = 0;
  /// Memory for an operand, placed where `put` needs no further copy.
  virtual Buffer allocate(const TensorSpec& spec) = 0;
  /// Stores an operand. The buffer must not be written afterwards.
  virtual void put(OperandId id, Buffer operand) = 0;
  /// Frees operands; ids that are not stored are ignored.
  virtual void free(std::vector<OperandId> ids) = 0;
  /// Starts an operation. The future throws ProtocolError if the worker refuses (unknown id, shapes that do not fit) or
  /// breaks the protocol, and WorkerLostError once the connection is gone: then every call and every future that waits
  /// throws it.
  virtual std::future<Buffer> submit(Operation operation) = 0;
};

}  // namespace tempo::contract
