/// An operation under way on one worker or several.
#pragma once

#include <chrono>
#include <cstdint>
#include <future>
#include <string>
#include <vector>

#include "offload/pool/row_cut.h"
#include "tempo/worker.h"

namespace tempo::offload {

/// How the workers' replies make the whole one.
enum class Combine : uint8_t {
  kOne,   ///< one worker answers for all
  kRows,  ///< each has some rows
  kSum,   ///< each has a part of a sum
  kEach   ///< all do the same: one must succeed, and those that fail are out
};

/// One worker's try at a shard.
struct Attempt {
  size_t member = 0;
  uint64_t life = 0;
  std::chrono::steady_clock::time_point start;
  std::future<Buffer> reply;
};

/// What one worker has to do of an operation; more than one try where the first is late or lost.
struct Shard {
  RowRange rows;
  std::vector<Attempt> attempts;
  std::vector<size_t> tried;  ///< members that had their try
  Buffer result;
  bool is_done = false;
  size_t by = 0;  ///< the member whose result it is
  double seconds = 0;
};

/// Belongs to the pool that gave it out. Movable; may be dropped without waiting.
struct PendingReply {
  Operation operation;
  TensorSpec expected;
  std::string what;  ///< for messages: "forward of layer1.conv1"
  Combine combine = Combine::kOne;
  std::vector<Shard> shards;
  double waited = 0;  ///< seconds, for what was received
};

}  // namespace tempo::offload
