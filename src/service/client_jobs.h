/// What a client remembers of its jobs: above all the newest state that it has heard of, so that nobody can put an
/// older one back unnoticed. One JSON file a job; nothing in it is secret, but whoever can change it can hide a
/// roll-back.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "service/job_id.h"
#include "service/release.h"

namespace tempo::service {

struct RememberedJob {
  JobId job{};
  std::string server;      ///< HOST:PORT
  uint64_t counter = 0;    ///< of the newest state heard of; 0: none
  std::string config;      ///< TOML, to submit it again if the upload was cut short
  std::string archive;     ///< path of the sealed data on this machine; empty: generated images
  ArchiveId archive_id{};  ///< zero: generated images
};

class ClientJobs {
 public:
  explicit ClientJobs(std::filesystem::path folder) : folder_(std::move(folder)) {}

  /// @throws InputError if there is no such job, or its file is something else.
  [[nodiscard]] RememberedJob load(const JobId& job) const;
  /// @throws RunError
  void save(const RememberedJob& job) const;
  /// The service says that the state of this job is `counter`; 0: it does not know. Raises what is remembered, if
  /// anything is. @throws AttestationError if it is lower than what was heard before.
  void heard(const JobId& job, uint64_t counter) const;
  void forget(const JobId& job) const;

 private:
  [[nodiscard]] std::filesystem::path file(const JobId& job) const;

  std::filesystem::path folder_;
};

}  // namespace tempo::service
