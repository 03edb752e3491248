#include "service/session.h"

#include <fmt/format.h>

#include "attest/report_data.h"
#include "service/frame_stream.h"
#include "service/messages.h"
#include "tempo/error.h"

namespace tempo::service {
namespace {

using attest::ByteView;

constexpr int kMaxAttestations = 16;  // of one connection: asking hardware takes long
constexpr int kMaxLogged = 100;       // refusals of one connection
constexpr size_t kMaxLogReplyBytes = 1 << 20;

const char* name_of(v1::JobRequest::RequestCase request) {
  switch (request) {
    case v1::JobRequest::kChallenge:
      return "challenge";
    case v1::JobRequest::kCreate:
      return "create";
    case v1::JobRequest::kUpload:
      return "upload";
    case v1::JobRequest::kRelease:
      return "release";
    case v1::JobRequest::kStatus:
      return "status";
    case v1::JobRequest::kLogs:
      return "logs";
    case v1::JobRequest::kFetch:
      return "fetch";
    case v1::JobRequest::kCancel:
      return "cancel";
    default:
      return "none";
  }
}

}  // namespace

v1::JobReply Session::answer(const v1::JobRequest& request) noexcept {
  v1::JobReply reply;
  try {
    reply = dispatch(request);
  } catch (const Error& error) {
    reply = failure_reply(error);
  } catch (const std::exception&) {
    reply = failure_reply(RunError("the service could not do it"));
  }
  if (reply.has_failure()) log_refusal(name_of(request.request_case()), reply.failure());
  return reply;
}

v1::JobReply Session::dispatch(const v1::JobRequest& request) {
  if (request.has_challenge()) return attest(request.challenge());
  if (!is_attested_) throw InputError("expected a challenge first");
  switch (request.request_case()) {
    case v1::JobRequest::kCreate:
      return create(request.create());
    case v1::JobRequest::kUpload:
      return upload(request.upload());
    case v1::JobRequest::kRelease:
      return release(request.release());
    case v1::JobRequest::kStatus:
      return status(request.status());
    case v1::JobRequest::kLogs:
      return logs(request.logs());
    case v1::JobRequest::kFetch:
      return fetch(request.fetch());
    case v1::JobRequest::kCancel:
      return cancel(request.cancel());
    default:
      throw InputError("a request that this service does not know");
  }
}

v1::JobReply Session::attest(const v1::Challenge& challenge) {
  if (challenge.version() != kProtocolVersion)
    throw InputError(fmt::format("challenge: version {}, expected {}", challenge.version(), kProtocolVersion));
  const auto nonce = fixed<kNonceBytes>(challenge.nonce(), "challenge: nonce");
  if (++attestations_ > kMaxAttestations) throw InputError("challenge: too many on one connection");
  const attest::Digest32 config_hash = sha256(bytes_of(parts_.configuration));
  const attest::ReportData report_data =
      attest::bind_report_data({.nonce = nonce,
                                .spki = binding_.service_spki,
                                .release_public_key = parts_.release_key.public_key(),
                                .tls_exporter = binding_.exporter,
                                .config_hash = config_hash});
  const std::string evidence = attest::to_json(parts_.evidence.collect(report_data));
  transcript_ = hash_of({.nonce = nonce,
                         .binding = binding_,
                         .release_key = parts_.release_key.public_key(),
                         .config_hash = config_hash,
                         .evidence = bytes_of(evidence)});
  is_attested_ = true;
  v1::JobReply reply;
  reply.mutable_attestation()->set_evidence(evidence);
  reply.mutable_attestation()->set_release_key(text_of(parts_.release_key.public_key()));
  reply.mutable_attestation()->set_configuration(parts_.configuration);
  return reply;
}

v1::JobReply Session::create(const v1::CreateJob& request) {
  const auto job = parts_.jobs.create(binding_.client, request.archive_bytes());
  parts_.log.info("job_created", {{"job", to_string(job->record().job)},
                                  {"client", attest::to_hex(binding_.client)},
                                  {"archive_bytes", request.archive_bytes()}});
  return status_of(*job);
}

v1::JobReply Session::upload(const v1::UploadChunk& request) {
  const auto job = find(request.job());
  if (!job) return no_such_job();
  job->upload(request.offset(), bytes_of(request.data()));
  return status_of(*job);
}

v1::JobReply Session::release(const v1::ReleaseKeys& request) {
  const auto job = find(request.job());
  if (!job) return no_such_job();
  if (!transcript_) throw InputError("release: expected a challenge first; each attestation serves one release");
  const attest::Digest32 transcript = *transcript_;
  transcript_.reset();
  Release release = open_release(bytes_of(request.sealed()), parts_.release_key, transcript);
  if (release.job != job->record().job) throw InputError("release: sealed for another job");
  const bool is_first = release.is_first;
  try {
    job->release(std::move(release), binding_.client);
  } catch (const InputError&) {
    // Its configuration is refused, so it can never run: it must not count among the client's jobs.
    if (is_first && job->has_nothing_to_run()) parts_.jobs.remove(job);
    throw;
  }
  if (job->view().phase == Phase::kQueued) parts_.queue.add(job);
  parts_.log.info("keys_released", {{"job", to_string(job->record().job)}, {"state", job->view().counter}});
  return status_of(*job);
}

v1::JobReply Session::status(const v1::StatusQuery& request) {
  if (!request.job().empty()) {
    const auto job = find(request.job());
    return job ? status_of(*job) : no_such_job();
  }
  v1::JobReply reply;
  reply.mutable_jobs();
  for (const auto& job : parts_.jobs.all_of(binding_.client)) fill(job->view(), *reply.mutable_jobs()->add_jobs());
  return reply;
}

v1::JobReply Session::logs(const v1::LogsQuery& request) {
  const auto job = find(request.job());
  if (!job) return no_such_job();
  v1::JobReply reply;
  v1::LogLines& out = *reply.mutable_logs();
  out.set_is_over(is_over(job->view().phase));  // before the lines: none may be missed
  uint64_t first = 0;
  size_t total = 0;
  for (std::string& line : job->lines(request.from(), first)) {
    total += line.size();
    if (total > kMaxLogReplyBytes) break;
    out.add_lines(std::move(line));
  }
  out.set_first(first);
  return reply;
}

v1::JobReply Session::fetch(const v1::FetchQuery& request) {
  const auto job = find(request.job());
  if (!job) return no_such_job();
  uint64_t total = 0;
  const attest::Bytes piece = request.file() == v1::FetchQuery::STATE
                                  ? job->read_state(request.offset(), kPieceBytes, total)
                                  : job->read_checkpoint(request.number(), request.offset(), kPieceBytes, total);
  v1::JobReply reply;
  reply.mutable_chunk()->set_total(total);
  reply.mutable_chunk()->set_data(text_of(piece));
  return reply;
}

v1::JobReply Session::cancel(const v1::CancelJob& request) {
  const auto job = find(request.job());
  if (!job) return no_such_job();
  parts_.log.info(request.remove() ? "job_removed" : "job_cancelled", {{"job", to_string(job->record().job)}});
  if (!request.remove())
    job->cancel();
  else
    parts_.jobs.remove(job);
  return status_of(*job);
}

std::shared_ptr<Job> Session::find(const std::string& id) const {
  return parts_.jobs.find(binding_.client, fixed<16>(id, "job"));
}

v1::JobReply Session::status_of(const Job& job) const {
  JobView view = job.view();
  view.ahead = parts_.queue.ahead_of(job);
  v1::JobReply reply;
  fill(view, *reply.mutable_jobs()->add_jobs());
  return reply;
}

void Session::log_refusal(const char* request, const v1::Failure& failure) {
  if (++logged_ > kMaxLogged) return;
  parts_.log.warning(
      "request_refused",
      {{"request", request}, {"client", attest::to_hex(binding_.client)}, {"reason", failure.message()}});
}

}  // namespace tempo::service
