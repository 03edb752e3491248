#include "service/job_id.h"

#include <sodium.h>

#include "attest/types.h"
#include "base/csprng.h"

namespace tempo::service {

JobId random_job_id() {
  const SecretKey random = SecretKey::random();
  JobId id{};
  for (size_t i = 0; i < id.size(); ++i) id[i] = random.bytes()[i];
  return id;
}

std::string to_string(const JobId& id) { return attest::to_hex(id); }

JobId parse_job_id(const std::string& text) { return attest::digest_from_hex<std::tuple_size_v<JobId>>(text, "job"); }

SecretKey job_key(const SecretKey& data_key, const JobId& id) {
  return derive_key(data_key, "service-job", {std::string_view(to_string(id))});
}

}  // namespace tempo::service
