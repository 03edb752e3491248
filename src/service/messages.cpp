#include "service/messages.h"

#include <fmt/format.h>

#include <algorithm>

#include "tempo/error.h"

namespace tempo::service {
namespace {

constexpr size_t kMaxMessageText = 1024;

}  // namespace

template <size_t kBytes>
std::array<std::byte, kBytes> fixed(const std::string& field, const char* what) {
  if (field.size() != kBytes)
    throw InputError(fmt::format("{}: got {} bytes, expected {}", what, field.size(), kBytes));
  std::array<std::byte, kBytes> out{};
  std::copy_n(bytes_of(field).begin(), kBytes, out.begin());
  return out;
}
template std::array<std::byte, 16> fixed<16>(const std::string&, const char*);
template std::array<std::byte, 32> fixed<32>(const std::string&, const char*);

std::string printable(const std::string& untrusted, size_t most) {
  std::string text = untrusted.substr(0, most);
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  return text;
}

void fill(const JobView& view, v1::JobStatus& status) {
  status.set_job(text_of(view.job));
  status.set_phase(static_cast<v1::JobStatus::Phase>(view.phase));
  status.set_counter(view.counter);
  status.set_step(view.step);
  status.set_uploaded(view.uploaded);
  status.set_archive_bytes(view.archive_bytes);
  status.set_ahead(view.ahead);
  status.set_note(printable(view.note, kMaxNoteBytes));  // protobuf refuses what is not UTF-8
}

JobView view_of(const v1::JobStatus& status) {
  if (status.job().size() != std::tuple_size_v<JobId> || status.phase() < 0 ||
      static_cast<size_t>(status.phase()) >= kPhases)
    throw ProtocolError("service: the status of a job has no id, or a phase that there is none of");
  return {.job = fixed<16>(status.job(), "job"),
          .phase = static_cast<Phase>(status.phase()),
          .counter = status.counter(),
          .step = status.step(),
          .uploaded = status.uploaded(),
          .archive_bytes = status.archive_bytes(),
          .ahead = status.ahead(),
          .note = printable(status.note(), kMaxNoteBytes)};
}

v1::JobReply failure_reply(const Error& error) {
  v1::JobReply reply;
  v1::Failure& failure = *reply.mutable_failure();
  failure.set_code(error.exit_code() == ExitCode::kBadInput      ? v1::Failure::BAD_INPUT
                   : error.exit_code() == ExitCode::kAttestation ? v1::Failure::ROLLED_BACK
                                                                 : v1::Failure::FAILED);
  failure.set_message(printable(error.what(), kMaxMessageText));
  return reply;
}

v1::JobReply no_such_job() {
  v1::JobReply reply;
  reply.mutable_failure()->set_code(v1::Failure::NO_SUCH_JOB);
  reply.mutable_failure()->set_message("permission denied: this client has no such job");
  return reply;
}

void throw_failure(const v1::Failure& failure) {
  const std::string text = "service: " + printable(failure.message(), kMaxMessageText);
  switch (failure.code()) {
    case v1::Failure::BAD_INPUT:
    case v1::Failure::NO_SUCH_JOB:
      throw InputError(text);
    case v1::Failure::ROLLED_BACK:
      throw AttestationError(text);
    default:
      throw RunError(text);
  }
}

}  // namespace tempo::service
