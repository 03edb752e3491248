#include "train/data/cifar.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/byte_reader.h"
#include "base/text.h"
#include "tempo/error.h"

namespace tempo::train {
namespace {

constexpr int64_t kSide = 32, kChannels = 3;
constexpr size_t kImageBytes = kChannels * kSide * kSide;
constexpr size_t kRecordBytes = 1 + kImageBytes;
constexpr size_t kCifarClasses = 10;
constexpr size_t kMaxNameBytes = 64;
static_assert(kMaxCifar10FileBytes == kRecordBytes * 1'000'000);
constexpr size_t kMaxNamesFileBytes = 4096;
constexpr const char* kNamesFile = "batches.meta.txt";
constexpr std::string_view kBatchPrefix = "data_batch_", kBatchSuffix = ".bin";

/// Means and standard deviations over the 50,000 training images, of values scaled to 0..1.
constexpr std::array<float, 3> kCifarMean = {0.4914F, 0.4822F, 0.4465F};
constexpr std::array<float, 3> kCifarStddev = {0.2470F, 0.2435F, 0.2616F};

struct NumberedFile {
  uint64_t number;
  std::string name;
  auto operator<=>(const NumberedFile&) const = default;
};

std::vector<NumberedFile> data_batches(const DataSource& source) {
  std::vector<NumberedFile> found;
  for (const std::string& name : source.files()) {
    if (!name.starts_with(kBatchPrefix) || !name.ends_with(kBatchSuffix)) continue;
    const char* begin = name.data() + kBatchPrefix.size();
    const char* end = name.data() + std::max(name.size() - kBatchSuffix.size(), kBatchPrefix.size());
    uint64_t number = 0;
    const auto [stop, error] = std::from_chars(begin, end, number);
    if (error != std::errc() || stop != end)
      throw InputError(
          fmt::format("{}: {} has no number, expected data_batch_N.bin", source.name(), quote_untrusted(name)));
    found.push_back({number, name});
  }
  std::sort(found.begin(), found.end());
  return found;
}

Dataset empty_split(const std::string& name, const std::vector<std::string>& class_names) {
  Dataset split;
  split.name = name;
  split.channels = kChannels;
  split.height = split.width = kSide;
  split.class_names = class_names;
  split.mean = kCifarMean;
  split.stddev = kCifarStddev;
  return split;
}

std::vector<std::string> standard_class_names() {
  return {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"};
}

}  // namespace

Dataset empty_cifar10(const std::string& name) { return empty_split(name, standard_class_names()); }

void append_cifar10_records(std::span<const std::byte> bytes, const std::string& source, Dataset& into) {
  const size_t records = bytes.size() / kRecordBytes;
  if (records == 0 || bytes.size() % kRecordBytes != 0)
    throw InputError(
        fmt::format("{}: {} bytes are {} whole records and {} bytes left over, expected a positive multiple of {}",
                    source, bytes.size(), records, bytes.size() % kRecordBytes, kRecordBytes));
  for (size_t i = 0; i < records; ++i) {
    const auto label = std::to_integer<unsigned>(bytes[i * kRecordBytes]);
    if (label >= kCifarClasses)
      throw InputError(
          fmt::format("{}: record {} has label {}, expected 0 to {}", source, i + 1, label, kCifarClasses - 1));
  }
  into.labels.reserve(into.labels.size() + records);
  into.images.reserve(into.images.size() + records * kImageBytes);
  const auto* values = reinterpret_cast<const uint8_t*>(bytes.data());
  for (size_t i = 0; i < records; ++i) {
    const uint8_t* record = values + i * kRecordBytes;
    into.labels.push_back(record[0]);
    into.images.insert(into.images.end(), record + 1, record + kRecordBytes);
  }
}

std::vector<std::string> parse_cifar10_class_names(std::string_view text, const std::string& source) {
  check_text(text, source);
  std::vector<std::string> names;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
    if (line.empty()) continue;
    if (line.size() > kMaxNameBytes)
      throw InputError(fmt::format("{}: class name {} has {} bytes, expected at most {}", source, names.size() + 1,
                                   line.size(), kMaxNameBytes));
    if (names.size() == kCifarClasses)
      throw InputError(fmt::format("{}: more than {} class names, expected {}", source, kCifarClasses, kCifarClasses));
    names.emplace_back(line);
  }
  if (names.size() != kCifarClasses)
    throw InputError(fmt::format("{}: {} class names, expected {}", source, names.size(), kCifarClasses));
  return names;
}

void append_cifar10_file(const DataSource& source, const std::string& file, Dataset& into) {
  source.read(file, kMaxCifar10FileBytes, [&](std::span<const std::byte> bytes, const std::string& name) {
    append_cifar10_records(bytes, name, into);
  });
}

DataSplits load_cifar10(const DataSource& source) {
  const auto batches = data_batches(source);
  if (batches.empty())
    throw InputError(
        fmt::format("{}: holds no data_batch_N.bin, expected CIFAR-10 in its binary layout", source.name()));

  std::vector<std::string> names = standard_class_names();
  const auto files = source.files();
  if (std::find(files.begin(), files.end(), kNamesFile) != files.end())
    source.read(kNamesFile, kMaxNamesFileBytes, [&](std::span<const std::byte> bytes, const std::string& name) {
      names = parse_cifar10_class_names({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, name);
    });

  DataSplits splits{empty_split("cifar10/train", names), empty_split("cifar10/test", names)};
  for (const auto& batch : batches) append_cifar10_file(source, batch.name, splits.train);
  append_cifar10_file(source, kCifar10TestFile, splits.test);
  return splits;
}

DataSplits load_cifar10(const std::filesystem::path& folder) { return load_cifar10(*open_folder(folder)); }

}  // namespace tempo::train
