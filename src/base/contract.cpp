// The shared vocabulary of master and worker (include/tempo/worker.h): nothing secret, linked by both.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <new>
#include <utility>

#include "tempo/error.h"
#include "tempo/worker.h"

namespace tempo::contract {

size_t element_bytes(ElementType type) {
  switch (type) {
    case ElementType::kFloat32:
      return 4;
    case ElementType::kFloat64:
      return 8;
    case ElementType::kBFloat16:
      return 2;
  }
  throw ProtocolError(fmt::format("tensor: element type {} is not known", static_cast<int>(type)));
}

const char* element_name(ElementType type) {
  switch (type) {
    case ElementType::kFloat32:
      return "float32";
    case ElementType::kFloat64:
      return "float64";
    case ElementType::kBFloat16:
      return "bfloat16";
  }
  return "unknown";
}

int64_t TensorSpec::elements() const {
  int64_t count = 1;
  for (const int64_t extent : shape) {
    if (extent < 0 || __builtin_mul_overflow(count, extent, &count))
      throw ProtocolError("tensor: shape " + to_string(*this) + " has no size");
  }
  return count;
}

size_t TensorSpec::bytes() const {
  size_t size = 0;
  if (__builtin_mul_overflow(static_cast<size_t>(elements()), element_bytes(type), &size))
    throw ProtocolError("tensor: shape " + to_string(*this) + " does not fit in memory");
  return size;
}

void check_panels(const TensorSpec& spec) {
  const auto& [width, rows] = spec.panels;
  if (width == 0 && rows == 0) return;
  using P = PanelLayout;
  const bool is_sized = width > 0 && width <= P::kMostWidth && width % P::kUnit == 0 && rows > 0 &&
                        rows <= P::kMostRows && rows % P::kRowUnit == 0;
  if (!is_sized)
    throw ProtocolError(fmt::format("tensor: panels of {} by {} rows, expected multiples of {} up to {} by {} up to {}",
                                    width, rows, P::kUnit, P::kMostWidth, P::kRowUnit, P::kMostRows));
  if (spec.shape.size() < 2 || spec.shape.back() % width != 0)
    throw ProtocolError(fmt::format("tensor: {}, expected a last dimension of whole panels", to_string(spec)));
}

std::string to_string(const TensorSpec& spec) {
  std::string text = fmt::format("{}[{}]", element_name(spec.type), fmt::join(spec.shape, ", "));
  if (spec.panels.is_set()) text += fmt::format(" in panels of {} by {} rows", spec.panels.width, spec.panels.rows);
  return text;
}

Buffer Buffer::allocate(TensorSpec spec) {
  constexpr std::align_val_t kAlignment{64};
  const size_t bytes = spec.bytes();
  std::shared_ptr<std::byte> data(static_cast<std::byte*>(::operator new(bytes == 0 ? 1 : bytes, kAlignment)),
                                  [](std::byte* memory) { ::operator delete(memory, kAlignment); });
  return {std::move(spec), std::move(data)};
}

Buffer row_major(const Buffer& tensor) {
  TensorSpec spec = tensor.spec();
  const auto [width, block] = std::exchange(spec.panels, {});
  if (width == 0) return tensor;
  Buffer out = Buffer::allocate(std::move(spec));
  const int64_t rows = out.spec().shape.front();
  if (rows == 0) return out;
  const size_t row_bytes = out.bytes() / static_cast<size_t>(rows);
  const size_t panel_bytes = static_cast<size_t>(width) * element_bytes(out.spec().type);
  const std::byte* from = tensor.data();
  for (int64_t first = 0; first < rows; first += block)
    for (size_t panel = 0; panel < row_bytes; panel += panel_bytes)
      for (int64_t row = first; row < std::min(first + block, rows); ++row, from += panel_bytes)
        std::memcpy(out.data() + static_cast<size_t>(row) * row_bytes + panel, from, panel_bytes);
  return out;
}

const char* operation_name(const Operation& operation) {
  static constexpr const char* kNames[] = {"forward", "input_gradient", "weight_gradient", "update",
                                           "fetch",   "join_group",     "all_reduce"};
  static_assert(std::size(kNames) == std::variant_size_v<Operation>);
  return kNames[operation.index()];
}

}  // namespace tempo::contract
