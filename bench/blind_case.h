/// What benchmarks of blinding share: keys, memory, one thread.
#pragma once

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <utility>

#include "obfuscation/blind.h"
#include "tempo/worker.h"

namespace tempo::bench {

using Random = std::mt19937_64;
using Bytes = contract::Buffer;

inline ThreadPool& one_thread() {
  static ThreadPool pool(1);
  return pool;
}

struct KeyShape {
  int rounds;
  uint32_t block;
  bool signs;
  uint32_t group = 0;  ///< Key::group
};
constexpr KeyShape kPermuteAndScale = {1, 1, false};
constexpr KeyShape rotation(int rounds) { return {rounds, 16, true}; }
/// What `rotated` does to 257 to 65,536 rows.
constexpr KeyShape kMixedFully = {2, 256, true};
constexpr KeyShape in_groups(uint32_t group) { return {2, 256, true, group}; }
constexpr KeyShape kLeftAlone = {0, 1, true};
/// What `oblique` does to channels.
constexpr KeyShape kObliqueChannels = {5, 16, false};

inline obfuscation::Key random_key(int64_t size, KeyShape shape, Random& random) {
  obfuscation::Key key;
  key.size = static_cast<uint32_t>(size);
  key.orthogonal = shape.signs;
  key.group = shape.group < size ? shape.group : 0;
  std::uniform_real_distribution<float> magnitude(0.25f, 4.0f);
  for (int r = 0; r < shape.rounds; ++r) {
    obfuscation::KeyRound round;
    round.block = shape.block;
    round.source.resize(key.size);
    std::iota(round.source.begin(), round.source.end(), 0u);
    const int64_t group = r > 0 && key.group > 0 ? key.group : size;
    for (int64_t first = 0; first < size; first += group)
      std::shuffle(round.source.begin() + first, round.source.begin() + std::min(first + group, size), random);
    for (uint32_t i = 0; i < key.size; ++i)
      round.scale.push_back((random() % 2 ? 1.0f : -1.0f) * (shape.signs ? 1.0f : magnitude(random)));
    key.rounds.push_back(std::move(round));
  }
  return key;
}

inline Bytes buffer(contract::ElementType type, int64_t elements) {
  Bytes bytes = Bytes::allocate({type, {elements}});
  std::memset(bytes.data(), 0, bytes.bytes());
  return bytes;
}

}  // namespace tempo::bench
