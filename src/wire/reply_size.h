/// What an operation makes of the operands that it names: the master takes no longer reply, the worker starts no larger
/// product. Computed from the operands, not from shapes that the operation claims, wherever the executor does so.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "tempo/worker.h"

namespace tempo::wire {

/// What is known of an operand; null if nothing is.
using SpecOf = std::function<const contract::TensorSpec*(contract::OperandId)>;

/// The tensor that is computed, even where it stays on the worker. None where only a refusal can come: operands that
/// are not known, or of shapes that no product has.
std::optional<contract::TensorSpec> result_spec(const contract::Operation& operation, const SpecOf& spec_of);

/// The size of a spec that may come from a peer: saturated instead of overflowing.
uint64_t saturated_bytes(const contract::TensorSpec& spec);

/// The most bytes that an honest reply can have; 0 where it can only be empty or a refusal.
uint64_t max_reply_bytes(const contract::Operation& operation, const SpecOf& spec_of);

}  // namespace tempo::wire
