/// The data owner's end of the job service.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "attest/appraisal.h"
#include "attest/vendor_roots.h"
#include "service/client_jobs.h"
#include "service/frame_stream.h"
#include "service/job.h"
#include "service/tls_channel.h"
#include "wire/host_port.h"

namespace tempo::service {

struct ClientOptions {
  wire::HostPort server;
  attest::Policy policy;
  attest::Collateral collateral;
  std::filesystem::path state;  ///< folder: jobs/, what collateral was seen, what was refused
  attest::UtcTime now{};        ///< expiry dates are compared with it
  /// For tests alone, which have no vendor's keys. Null: the pinned ones.
  const attest::VendorRoots* unpinned_roots = nullptr;
};

/// A finished job, opened.
struct FetchedJob {
  JobState state;
  std::vector<std::byte> checkpoint;  ///< plain, to be wiped; empty if there is none
};

/// One attested connection. Nothing is asked, and nothing sent, before evidence over this very connection was accepted.
/// What the service says of a job's state is compared with what was remembered. What this client refuses, it also logs:
/// a warning in `refused.jsonl` of its state folder. Not thread-safe.
class Client {
 public:
  /// Connects and attests. @param identity outlives it: who owns the jobs.
  /// @throws AttestationError if the evidence is refused; InputError, RunError.
  Client(const ClientOptions& options, const TlsIdentity& identity);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  [[nodiscard]] const attest::Appraisal& appraisal() const { return appraisal_; }
  /// What the service was started with, as JSON: covered by the evidence.
  [[nodiscard]] const std::string& configuration() const { return configuration_; }
  [[nodiscard]] const ClientJobs& jobs() const { return jobs_; }

  JobView create(uint64_t archive_bytes);
  /// Sends a file's bytes from `from` on. @param progress called with bytes sent
  void upload(const JobId& job, const std::filesystem::path& archive, uint64_t from,
              const std::function<void(uint64_t)>& progress);
  /// Hands the keys over, to the attested service alone; attests once more if this attestation has served already.
  JobView release(const Release& release);
  std::vector<JobView> status(const std::optional<JobId>& job);
  struct Lines {
    std::vector<std::string> lines;
    uint64_t first = 0;
    bool is_over = false;
  };
  Lines logs(const JobId& job, uint64_t from);
  JobView cancel(const JobId& job, bool remove);
  /// The sealed state and its checkpoint, opened with the data set's key. @throws AttestationError if the state is
  /// older than what was heard of, or of another job or client.
  FetchedJob fetch(const JobId& job, const SecretKey& data_key);

 private:
  void attest();
  void check(const v1::Attestation& got, attest::ByteView nonce);
  void heard(const JobId& job, uint64_t counter);
  /// Runs a check of this client's; what it refuses is logged, and thrown on.
  template <typename Check>
  void refusing(const char* event, const Check& check) const;
  v1::JobReply call(const v1::JobRequest& request);
  JobView one_view(const v1::JobReply& reply);
  std::vector<std::byte> fetch_file(v1::FetchQuery query);
  [[nodiscard]] attest::SeenCollateral seen() const;

  const ClientOptions options_;
  const ClientJobs jobs_;
  TlsChannel channel_;
  SocketPair pair_;
  std::atomic<bool> stop_ = false;
  std::thread pump_;
  std::unique_ptr<SessionCaller> caller_;
  attest::Appraisal appraisal_;
  std::string configuration_;
  std::optional<attest::Digest32> transcript_;
  ReleasePublicKey release_key_{};
};

}  // namespace tempo::service
