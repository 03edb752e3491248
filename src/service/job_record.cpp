#include "service/job_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/byte_reader.h"
#include "base/file.h"
#include "seal/sealed_file.h"
#include "tempo/error.h"

namespace tempo::service {
namespace {

using attest::Bytes;
using attest::ByteView;

constexpr std::string_view kRecordMagic = "TEMPOJOB", kStateMagic = "TEMPOJST";
constexpr uint32_t kRecordVersion = 1;
constexpr const char* kStateKind = "job-state";
constexpr size_t kMaxLines = size_t{1} << 20;
constexpr size_t kMaxStateBytes = (size_t{64} << 20);
constexpr const char* kPhaseNames[kPhases] = {"uploading", "waiting-for-key", "queued", "running",
                                              "done",      "cancelled",       "failed"};

/// Counts first, then fills: secrets are never in memory that grows.
class Writer {
 public:
  explicit Writer(std::span<std::byte> out) : out_(out), is_counting_(out.empty()) {}
  void bytes(ByteView bytes) {
    if (!is_counting_) std::copy(bytes.begin(), bytes.end(), out_.begin() + static_cast<std::ptrdiff_t>(size_));
    size_ += bytes.size();
  }
  void text(std::string_view text) { bytes(std::as_bytes(std::span(text.data(), text.size()))); }
  template <typename Integer>
  void number(Integer value) {
    std::array<std::byte, sizeof value> all{};
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::byte>(value >> (8 * i));
    bytes(all);
  }
  void long_text(std::string_view value) {
    number(static_cast<uint32_t>(value.size()));
    text(value);
  }
  [[nodiscard]] size_t size() const { return size_; }

 private:
  std::span<std::byte> out_;
  bool is_counting_;
  size_t size_ = 0;
};

void write(Writer& out, const JobState& state) {
  out.text(kStateMagic);
  out.number(kRecordVersion);
  out.bytes(state.job);
  out.bytes(state.owner);
  out.number(state.counter);
  out.number(static_cast<uint8_t>(state.phase));
  out.number(state.step);
  out.bytes(state.archive_id);
  out.long_text(state.config);
  out.long_text(state.note);
  out.long_text(state.summary);
  out.number(static_cast<uint8_t>(state.checkpoint ? 1 : 0));
  if (state.checkpoint) {
    out.number(state.checkpoint->number);
    out.bytes(state.checkpoint->key.bytes());
  }
  out.number(state.first_line);
  out.number(static_cast<uint32_t>(state.lines.size()));
  for (const LogLine& line : state.lines) {
    out.number(line.step);
    out.long_text(line.text);
  }
}

/// Reads what `Writer` wrote; every refusal names the source.
class Reader {
 public:
  Reader(ByteView bytes, const std::string& source) : reader_(bytes, source) {}

  void expect(std::string_view magic, const char* what) {
    if (reader_.left() < magic.size() || reader_.text(magic.size()) != magic)
      throw InputError(fmt::format("{}: not {}; expected it to begin with {}", reader_.source(), what, magic));
    if (const uint32_t version = reader_.u32(); version != kRecordVersion)
      throw InputError(fmt::format("{}: of version {}, expected {}", reader_.source(), version, kRecordVersion));
  }
  template <size_t kBytes>
  void fill(std::array<std::byte, kBytes>& out) {
    const ByteView bytes = reader_.bytes(kBytes);
    std::copy(bytes.begin(), bytes.end(), out.begin());
  }
  void fill(SecretKey& out) {
    const ByteView bytes = reader_.bytes(SecretKey::kBytes);
    std::copy(bytes.begin(), bytes.end(), out.writable().begin());
  }
  uint64_t u64() { return reader_.u64(); }
  uint8_t below(size_t bound, const char* what) {
    const uint8_t value = reader_.u8();
    if (value >= bound)
      throw InputError(fmt::format("{}: {} is {}, expected below {}", reader_.source(), what, value, bound));
    return value;
  }
  uint32_t count(size_t most, const char* what) {
    const uint32_t value = reader_.u32();
    if (value > most)
      throw InputError(fmt::format("{}: {} {}, expected at most {}", reader_.source(), value, what, most));
    return value;
  }
  std::string text(size_t most, const char* what) { return reader_.text(count(most, what)); }
  void end() {
    if (reader_.left() != 0) throw InputError(fmt::format("{}: {} bytes too many", reader_.source(), reader_.left()));
  }

 private:
  ByteReader reader_;
};

}  // namespace

const char* to_string(Phase phase) { return kPhaseNames[static_cast<size_t>(phase)]; }

bool is_over(Phase phase) { return phase == Phase::kDone || phase == Phase::kCancelled || phase == Phase::kFailed; }

Bytes encode(const JobRecord& record) {
  const auto put = [&](std::span<std::byte> into) {
    Writer out(into);
    out.text(kRecordMagic);
    out.number(kRecordVersion);
    out.bytes(record.job);
    out.bytes(record.owner);
    out.number(record.archive_bytes);
    return out.size();
  };
  Bytes bytes(put({}));
  put(bytes);
  return bytes;
}

JobRecord parse_job_record(ByteView bytes, const std::string& source) {
  Reader reader(bytes, source);
  reader.expect(kRecordMagic, "a job's record");
  JobRecord record;
  reader.fill(record.job);
  reader.fill(record.owner);
  record.archive_bytes = reader.u64();
  reader.end();
  return record;
}

SecretBytes encode(const JobState& state) {
  Writer count({});
  write(count, state);
  SecretBytes bytes(count.size());
  Writer out(bytes.writable());
  write(out, state);
  return bytes;
}

JobState parse_job_state(ByteView bytes, const std::string& source) {
  Reader reader(bytes, source);
  reader.expect(kStateMagic, "a job's state");
  JobState state;
  reader.fill(state.job);
  reader.fill(state.owner);
  state.counter = reader.u64();
  state.phase = static_cast<Phase>(reader.below(kPhases, "the phase"));
  state.step = reader.u64();
  reader.fill(state.archive_id);
  state.config = reader.text(kMaxJobConfigBytes, "bytes of configuration");
  state.note = reader.text(kMaxNoteBytes, "bytes of note");
  state.summary = reader.text(kMaxSummaryBytes, "bytes of summary");
  if (reader.below(2, "the mark of a checkpoint") == 1) {
    CheckpointEntry& checkpoint = state.checkpoint.emplace();
    checkpoint.number = reader.u64();
    reader.fill(checkpoint.key);
  }
  state.first_line = reader.u64();
  const uint32_t lines = reader.count(kMaxLines, "lines");
  size_t total = 0;
  for (uint32_t i = 0; i < lines; ++i) {
    const uint64_t step = reader.u64();
    state.lines.push_back({step, reader.text(kMaxLineBytes, "bytes in a line")});
    total += state.lines.back().text.size();
  }
  if (total > kMaxLogBytes)
    throw InputError(fmt::format("{}: {} bytes of lines, expected at most {}", source, total, kMaxLogBytes));
  reader.end();
  return state;
}

void save_job_state(const JobState& state, const std::filesystem::path& file, const SecretKey& key) {
  seal::SealedWriter writer(file, key, kStateKind);
  writer.write(encode(state).bytes());
  writer.commit();
}

JobState load_job_state(const std::filesystem::path& file, const SecretKey& key) {
  std::vector<std::byte> plain = seal::unseal_file(file, key, kStateKind, kMaxStateBytes);
  const auto wipe = [&] { sodium_memzero(plain.data(), plain.size()); };
  try {
    JobState state = parse_job_state(plain, file.string());
    wipe();
    return state;
  } catch (const InputError&) {
    wipe();
    throw;
  }
}

}  // namespace tempo::service
