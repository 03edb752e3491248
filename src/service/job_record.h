/// What the service keeps of a job on disk: a record that anyone may read, and the state, sealed. Layout:
/// docs/service.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "attest/types.h"
#include "base/secret.h"
#include "service/job_id.h"
#include "service/release.h"

namespace tempo::service {

enum class Phase : uint8_t { kUploading, kWaitingForKey, kQueued, kRunning, kDone, kCancelled, kFailed };
constexpr size_t kPhases = 7;
/// "waiting-for-key"
const char* to_string(Phase phase);
/// Nothing happens to it any more by itself.
bool is_over(Phase phase);

/// Readable by whoever has the disk, and not believed: it only says where to look, and whom to answer.
struct JobRecord {
  JobId job{};
  attest::Digest32 owner{};  ///< SHA-256 of the client's public key
  uint64_t archive_bytes = 0;
  bool operator==(const JobRecord&) const = default;
};
attest::Bytes encode(const JobRecord& record);
/// @throws InputError
JobRecord parse_job_record(attest::ByteView bytes, const std::string& source);

/// A line of a job's log: what metrics.jsonl would hold.
struct LogLine {
  uint64_t step = 0;
  std::string text;
  bool operator==(const LogLine&) const = default;
};
constexpr size_t kMaxLineBytes = 4096;
constexpr size_t kMaxLogBytes = 16 << 20;  ///< of a job; then its oldest lines go
constexpr size_t kMaxNoteBytes = 1024;
constexpr size_t kMaxSummaryBytes = 64 << 10;

/// The one checkpoint that belongs to a state. Its key is fresh for each, and nowhere but in the state: so no other
/// file can take its place, not even an older one of the same job.
struct CheckpointEntry {
  uint64_t number = 0;
  SecretKey key;
};

/// Sealed under the job's key. `counter` grows with every state that is written.
struct JobState {
  JobId job{};
  attest::Digest32 owner{};
  uint64_t counter = 0;
  Phase phase = Phase::kQueued;
  uint64_t step = 0;
  ArchiveId archive_id{};
  std::string config;  ///< TOML, as the client sent it
  std::string note;    ///< why it failed
  std::string summary;
  std::optional<CheckpointEntry> checkpoint;
  uint64_t first_line = 0;  ///< number of lines that are gone
  std::vector<LogLine> lines;
};
SecretBytes encode(const JobState& state);
/// @throws InputError
JobState parse_job_state(attest::ByteView bytes, const std::string& source);

/// Replaces the file as a whole, or not at all. @throws RunError
void save_job_state(const JobState& state, const std::filesystem::path& file, const SecretKey& key);
/// @throws InputError if it is missing, altered, or of another key.
JobState load_job_state(const std::filesystem::path& file, const SecretKey& key);

}  // namespace tempo::service
