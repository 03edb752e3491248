/// An operation under way on one worker or several.
#pragma once

#include <chrono>
#include <cstdint>
#include <future>
#include <string>
#include <vector>

#include "offload/contract.h"
#include "offload/pool/operand_source.h"
#include "offload/pool/row_cut.h"

namespace tempo::offload {

/// How the replies of the workers are combined into the whole reply.
enum class Combine : uint8_t {
  kOne,   ///< one worker gives the whole reply
  kRows,  ///< each worker gives some rows
  kSum,   ///< each worker gives one term of a sum
  kEach   ///< all workers do the same; one must succeed, and those that fail are dropped
};

/// One attempt of a worker at a shard.
struct Attempt {
  size_t member = 0;
  uint64_t life = 0;
  std::chrono::steady_clock::time_point start;
  std::future<Buffer> reply;
};

/// The part of an operation that one worker does. It has more than one attempt if the first is late or lost.
struct Shard {
  RowRange rows;
  std::vector<Attempt> attempts{};
  std::vector<size_t> tried{};  ///< members that were given this shard so far
  Buffer result{};
  bool is_done = false;
  size_t by = 0;  ///< index of the member that gave the result; past the end if nobody did (kEach)
  double seconds = 0;
};

/// An operation under way. Belongs to the pool that returned it. Movable. May be dropped without waiting.
struct PendingReply {
  Operation operation;
  TensorSpec expected;
  std::string what;  ///< for messages: "forward of layer1.conv1"
  Combine combine = Combine::kOne;
  Holder holder = 0;  ///< the workers that may be asked
  std::vector<Shard> shards;
  double waited = 0;  ///< seconds spent waiting so far
};

}  // namespace tempo::offload
