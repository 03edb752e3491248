#include "service/job_config.h"

#include <fmt/format.h>

#include <set>

#include "service/release.h"
#include "tempo/error.h"
#include "train/config.h"

namespace tempo::service {
namespace {

const std::set<std::string, std::less<>> kOfTheService = {"data-key",       "out",         "init", "workers", "tls",
                                                          "worker-timeout", "key",         "log",  "metrics", "resume",
                                                          "worker-wait",    "tee-threads", "page"};

}  // namespace

bool is_for_the_service(std::string_view name) { return kOfTheService.contains(name); }

namespace {

train::Settings settings_of(const std::string& toml) {
  if (toml.size() > kMaxJobConfigBytes)
    throw InputError(
        fmt::format("job: {} bytes of configuration, expected at most {}", toml.size(), kMaxJobConfigBytes));
  train::Settings settings = train::parse_settings(toml, "job");
  for (const auto& [name, value] : settings)
    if (is_for_the_service(name))
      throw InputError(fmt::format("job: {} is for the service to decide, expected it not to be set", name));
  if (const auto data = settings.find("data"); data != settings.end() && data->second != "synthetic")
    throw InputError("job: data names a place, expected synthetic, or an archive that is uploaded");
  return settings;
}

}  // namespace

void check_job_settings(const std::string& toml, uint64_t archive_bytes) {
  const train::Settings settings = settings_of(toml);
  if (archive_bytes > 0 && settings.contains("data"))
    throw InputError("job: data is set, expected the uploaded archive alone");
  job_run_config(toml, {});
}

RunConfig job_run_config(const std::string& toml, const RunConfig& base) {
  RunConfig config = base;
  train::apply_settings(config, settings_of(toml), "job: ");
  if ((config.train_size + config.test_size) > kMaxSyntheticBytes / (3 * config.image_size * config.image_size))
    throw InputError("job: more generated images than the service makes");
  train::resolve(config);
  return config;
}

}  // namespace tempo::service
