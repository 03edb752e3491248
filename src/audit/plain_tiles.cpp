#include "audit/plain_tiles.h"

#include "base/thread_pool.h"
#include "obfuscation/blind.h"

namespace tempo::audit {

using obfuscation::Form;
using obfuscation::Key;

Operand plain_tiles(const float* plain, const obfuscation::TileGeometry& geometry, const DecoyImages& decoys) {
  const Key rows{.size = static_cast<uint32_t>(geometry.rows()), .rounds = {}};
  const Key channels{.size = static_cast<uint32_t>(geometry.key_channels()), .rounds = {}};
  Operand out = shaped_like(geometry);
  ThreadPool threads(1);
  obfuscation::blind({.geometry = geometry,
                      .rows = {&rows, Form::kDirect},
                      .channels = {&channels, Form::kDirect},
                      .decoy_images = decoys.images},
                     {{obfuscation::ElementType::kFloat32, plain}, decoys.pixels},
                     reinterpret_cast<std::byte*>(out.values.data()), threads);
  return out;
}

}  // namespace tempo::audit
