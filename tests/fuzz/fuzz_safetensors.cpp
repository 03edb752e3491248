// Any bytes are either refused with an InputError or give entries within them that survive being written again.
#include <cstdlib>

#include "tempo/error.h"
#include "train/formats/safetensors.h"

namespace {

using tempo::train::SafetensorsFile;
using tempo::train::TensorEntry;
using Bytes = std::vector<std::byte>;

void check_equal(const SafetensorsFile& a, const SafetensorsFile& b) {
  if (a.metadata() != b.metadata() || a.entries().size() != b.entries().size()) std::abort();
  for (const TensorEntry& entry : a.entries()) {
    const TensorEntry* other = b.find(entry.name);
    if (other == nullptr || other->dtype != entry.dtype || other->shape != entry.shape ||
        Bytes(other->data.begin(), other->data.end()) != Bytes(entry.data.begin(), entry.data.end()))
      std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  try {
    const SafetensorsFile file = tempo::train::parse_safetensors(Bytes(input.begin(), input.end()), "fuzz");
    Bytes again;
    write_safetensors([&](std::span<const std::byte> piece) { again.insert(again.end(), piece.begin(), piece.end()); },
                      file.entries(), file.metadata());
    check_equal(file, tempo::train::parse_safetensors(std::move(again), "again"));
  } catch (const tempo::InputError&) {
  }
  return 0;
}
