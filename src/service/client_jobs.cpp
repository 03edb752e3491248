#include "service/client_jobs.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "attest/types.h"
#include "base/file.h"
#include "base/path.h"
#include "base/text.h"
#include "tempo/error.h"

namespace tempo::service {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxFileBytes = 256 << 10;

}  // namespace

std::filesystem::path ClientJobs::file(const JobId& job) const { return folder_ / (to_string(job) + ".json"); }

RememberedJob ClientJobs::load(const JobId& job) const {
  const auto path = file(job);
  if (!is_there(path))
    throw InputError(
        fmt::format("{}: not there; expected a job that was submitted with this --client-state", path.string()));
  try {
    const std::string text = read_text_file(path, kMaxFileBytes);
    check_text(text, path.string());
    const Json json = Json::parse(text);
    return {.job = parse_job_id(json.at("job").get<std::string>()),
            .server = json.at("server").get<std::string>(),
            .counter = json.at("counter").get<uint64_t>(),
            .config = json.at("config").get<std::string>(),
            .archive = json.at("archive").get<std::string>(),
            .archive_id = attest::digest_from_hex<16>(json.at("archive_id").get<std::string>(), "archive_id")};
  } catch (const Json::exception&) {
    throw InputError(fmt::format("{}: expected what tempo submit wrote", path.string()));
  }
}

void ClientJobs::save(const RememberedJob& job) const {
  make_folders(folder_);
  const Json json{{"job", to_string(job.job)}, {"server", job.server},
                  {"counter", job.counter},    {"config", job.config},
                  {"archive", job.archive},    {"archive_id", attest::to_hex(job.archive_id)}};
  AtomicFile out(file(job.job), 0600);
  out.write(json.dump(2) + "\n");
  out.commit();
}

void ClientJobs::heard(const JobId& job, uint64_t counter) const {
  if (counter == 0 || !is_there(file(job))) return;
  RememberedJob remembered = load(job);
  if (counter < remembered.counter)
    throw AttestationError(fmt::format("job {}: the service has state {}, state {} was seen before: it was rolled back",
                                       to_string(job), counter, remembered.counter));
  if (counter == remembered.counter) return;
  remembered.counter = counter;
  save(remembered);
}

void ClientJobs::forget(const JobId& job) const {
  std::error_code error;
  std::filesystem::remove(file(job), error);
}

}  // namespace tempo::service
