// What reaches the job service, or lies on its disk: releases, records, states, and the fields of messages. The first
// byte says which. What is taken must survive being written and read again.
#include <algorithm>
#include <cstdlib>

#include "service/job_record.h"
#include "service/messages.h"
#include "service/release.h"
#include "tempo/error.h"

namespace {

using tempo::attest::ByteView;

void check(bool holds) {
  if (!holds) std::abort();
}
bool same(ByteView a, ByteView b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }

void state(ByteView bytes) {
  const auto taken = tempo::service::parse_job_state(bytes, "fuzz");
  check(same(tempo::service::encode(taken).bytes(), bytes));
}

void record(ByteView bytes) {
  const auto taken = tempo::service::parse_job_record(bytes, "fuzz");
  check(same(tempo::service::encode(taken), bytes));
}

void release(ByteView bytes) {
  const tempo::attest::Digest32 transcript{};
  const auto taken = tempo::service::parse_release(bytes, transcript);
  check(same(tempo::service::encode_release(taken, transcript).bytes(), bytes));
}

/// As `Session` and `Client` look at them.
void messages(ByteView bytes) {
  using namespace tempo::service;
  tempo::v1::JobRequest request;
  if (request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    if (request.has_challenge()) fixed<kNonceBytes>(request.challenge().nonce(), "nonce");
    if (request.has_upload()) fixed<16>(request.upload().job(), "job");
    if (request.has_release()) fixed<16>(request.release().job(), "job");
  }
  tempo::v1::JobReply reply;
  if (!reply.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return;
  for (const auto& status : reply.jobs().jobs()) {
    const JobView view = view_of(status);
    tempo::v1::JobStatus again;
    fill(view, again);
    check(view_of(again).note == view.note && view_of(again).phase == view.phase);
  }
  for (const std::string& line : reply.logs().lines())
    for (const char c : printable(line, kMaxLineBytes)) check(c >= 0x20 && c <= 0x7e);
  if (reply.has_failure()) throw_failure(reply.failure());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const ByteView bytes(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  try {
    switch (data[0] % 4) {
      case 0:
        state(bytes);
        break;
      case 1:
        record(bytes);
        break;
      case 2:
        release(bytes);
        break;
      default:
        messages(bytes);
    }
  } catch (const tempo::Error&) {
  }
  return 0;
}
