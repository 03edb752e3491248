/// What a client may decide of a job, and what is the service's to decide.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tempo/run.h"

namespace tempo::service {

/// @param toml from a client. @param archive_bytes 0: the job must ask for generated images.
/// @throws InputError for bad TOML, unknown keys, and keys that name files, addresses or threads of the service.
void check_job_settings(const std::string& toml, uint64_t archive_bytes);

/// Whether a setting names files, addresses or threads of the service.
bool is_for_the_service(std::string_view name);

/// The client's settings over the service's own (workers, tls, threads, waits), resolved. @throws InputError as above
RunConfig job_run_config(const std::string& toml, const RunConfig& base);

/// Generated images take no more memory than this. @throws InputError
constexpr int64_t kMaxSyntheticBytes = int64_t{4} << 30;

}  // namespace tempo::service
