/// Messages of proto/tempo/v1/service.proto, checked and made. What comes in is hostile.
#pragma once

#include <string>
#include <vector>

#include "service/job.h"
#include "service/release.h"
#include "tempo/error.h"
#include "tempo/v1/service.pb.h"

namespace tempo::service {

constexpr uint32_t kProtocolVersion = 1;

/// Copies a field of a fixed size. @throws InputError naming `what` if it has another.
template <size_t kBytes>
std::array<std::byte, kBytes> fixed(const std::string& field, const char* what);
/// As text that can be shown on a terminal: one line, printable ASCII, not too long.
std::string printable(const std::string& untrusted, size_t most);

using attest::bytes_of;
inline std::string text_of(attest::ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void fill(const JobView& view, v1::JobStatus& status);
/// What a client believes of a reply. @throws ProtocolError for a phase that there is none of, or a bad id.
JobView view_of(const v1::JobStatus& status);

/// An error as a reply, and what came as one thrown again with its exit code.
v1::JobReply failure_reply(const Error& error);
v1::JobReply no_such_job();
[[noreturn]] void throw_failure(const v1::Failure& failure);

}  // namespace tempo::service
