/// The name of a job: 128 random bits, so that nobody guesses another's.
#pragma once

#include <array>
#include <cstddef>
#include <string>

#include "base/secret.h"

namespace tempo::service {

using JobId = std::array<std::byte, 16>;

JobId random_job_id();
/// 32 hex digits.
std::string to_string(const JobId& id);
/// @throws InputError for anything but 32 hex digits.
JobId parse_job_id(const std::string& text);

/// The key under which the service keeps a job's state: it follows from the data set's key, so the client can always
/// make it anew, and from the job's id, so that no two jobs share one.
SecretKey job_key(const SecretKey& data_key, const JobId& id);

}  // namespace tempo::service
