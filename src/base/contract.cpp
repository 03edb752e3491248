// The shared vocabulary of master and worker (include/tempo/worker.h): nothing secret, linked by both.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <iterator>
#include <new>

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

std::string to_string(const TensorSpec& spec) {
  return fmt::format("{}[{}]", element_name(spec.type), fmt::join(spec.shape, ", "));
}

Buffer Buffer::allocate(TensorSpec spec) {
  constexpr std::align_val_t kAlignment{64};
  const size_t bytes = spec.bytes();
  std::shared_ptr<std::byte> data(static_cast<std::byte*>(::operator new(bytes == 0 ? 1 : bytes, kAlignment)),
                                  [](std::byte* memory) { ::operator delete(memory, kAlignment); });
  return {std::move(spec), std::move(data)};
}

const char* operation_name(const Operation& operation) {
  static constexpr const char* kNames[] = {"forward", "input_gradient", "weight_gradient", "update",
                                           "fetch",   "join_group",     "all_reduce"};
  static_assert(std::size(kNames) == std::variant_size_v<Operation>);
  return kNames[operation.index()];
}

}  // namespace tempo::contract
