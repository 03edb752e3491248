// The first byte chooses a parser: even, class names, from the rest as text; odd, records. Records are 3073 bytes, so
// the rest is a recipe for them: every byte is the label of one record, and the last says how many bytes are cut off
// the end.
#include <algorithm>
#include <cstdlib>

#include "tempo/error.h"
#include "train/data/cifar.h"

namespace {

constexpr size_t kImageBytes = 3072;

void parse_records(std::span<const uint8_t> recipe) {
  const std::span<const uint8_t> labels = recipe.first(recipe.size() - 1);
  std::vector<std::byte> file;
  for (const uint8_t label : labels) {
    file.push_back(std::byte{label});
    file.insert(file.end(), kImageBytes, std::byte{label});
  }
  file.resize(file.size() - std::min<size_t>(recipe.back(), file.size()));
  tempo::train::Dataset data;
  append_cifar10_records(file, "fuzz", data);
  if (data.images.size() != data.labels.size() * kImageBytes || data.labels.size() != file.size() / (kImageBytes + 1) ||
      !std::equal(data.labels.begin(), data.labels.end(), labels.begin()))
    std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kMaxInputBytes = 256;
  if (size < 2 || size > kMaxInputBytes) return 0;
  try {
    if (data[0] % 2 == 0)
      tempo::train::parse_cifar10_class_names({reinterpret_cast<const char*>(data) + 1, size - 1}, "fuzz");
    else
      parse_records(std::span(data, size).subspan(1));
  } catch (const tempo::InputError&) {
  }
  return 0;
}
