/// Dense tensors in the TEE, as blinding sees them.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

#include "tempo/worker.h"

namespace tempo::obfuscation {

using contract::ElementType;

/// A borrowed dense tensor. `data` points at elements of `type`, laid out as the geometry in use says.
struct PlainTensor {
  ElementType type = ElementType::kFloat32;
  void* data = nullptr;
};

/// A dense tensor that is only read. `owner` keeps its memory while the view lives; without one the memory is borrowed.
struct ConstPlainTensor {
  ConstPlainTensor() = default;
  ConstPlainTensor(ElementType element_type, const void* memory, std::shared_ptr<const void> kept_by = nullptr)
      : type(element_type), data(memory), owner(std::move(kept_by)) {}
  ConstPlainTensor(const PlainTensor& tensor) : type(tensor.type), data(tensor.data) {}  // NOLINT: a view of a view

  ElementType type = ElementType::kFloat32;
  const void* data = nullptr;
  std::shared_ptr<const void> owner;
};

/// Calls `f` with a null pointer to the element type, `const double*` for float64 and `const float*` for all others.
template <typename F>
auto with_element_type(ElementType type, const F& f) {
  return type == ElementType::kFloat64 ? f(static_cast<const double*>(nullptr)) : f(static_cast<const float*>(nullptr));
}
/// The element type behind what `with_element_type` hands out.
template <typename Pointer>
using ElementOf = std::remove_const_t<std::remove_pointer_t<Pointer>>;

}  // namespace tempo::obfuscation
