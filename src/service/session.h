/// What the service answers on one connection.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "attest/source.h"
#include "observe/log.h"
#include "service/job_store.h"
#include "service/release.h"
#include "service/tls_channel.h"
#include "tempo/v1/service.pb.h"

namespace tempo::service {

/// What all connections of a service share. All outlives them.
struct ServiceParts {
  attest::EvidenceSource& evidence;
  const ReleaseKey& release_key;
  const std::string& configuration;  ///< JSON, of which clients see the hash in the evidence
  JobStore& jobs;
  JobQueue& queue;
  observe::Log& log;
};

/// Answers one request after the other. Nothing but a challenge is answered before the first attestation. Every refusal
/// is logged, up to a bound. Not thread-safe: one a connection.
class Session {
 public:
  Session(const ServiceParts& parts, const ChannelBinding& binding) : parts_(parts), binding_(binding) {}

  /// Never throws: what goes wrong is a Failure.
  v1::JobReply answer(const v1::JobRequest& request) noexcept;

 private:
  v1::JobReply dispatch(const v1::JobRequest& request);
  v1::JobReply attest(const v1::Challenge& challenge);
  v1::JobReply create(const v1::CreateJob& request);
  v1::JobReply upload(const v1::UploadChunk& request);
  v1::JobReply release(const v1::ReleaseKeys& request);
  v1::JobReply status(const v1::StatusQuery& request);
  v1::JobReply logs(const v1::LogsQuery& request);
  v1::JobReply fetch(const v1::FetchQuery& request);
  v1::JobReply cancel(const v1::CancelJob& request);

  /// nullptr: not there, or somebody else's.
  [[nodiscard]] std::shared_ptr<Job> find(const std::string& id) const;
  [[nodiscard]] v1::JobReply status_of(const Job& job) const;
  void log_refusal(const char* request, const v1::Failure& failure);

  const ServiceParts parts_;
  const ChannelBinding binding_;
  std::optional<attest::Digest32> transcript_;  ///< of the last attestation; a release uses it up
  bool is_attested_ = false;
  int attestations_ = 0, logged_ = 0;
};

}  // namespace tempo::service
