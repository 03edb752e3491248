#include "service/client.h"

#include <fmt/format.h>

#include <deque>
#include <fstream>

#include "attest/appraise_with_roots.h"
#include "attest/report_data.h"
#include "base/byte_reader.h"
#include "observe/log.h"
#include "seal/sealed_file.h"
#include "service/listener.h"
#include "service/messages.h"
#include "tempo/error.h"

namespace tempo::service {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kConnectPatience{10'000}, kHandshakePatience{10'000};
constexpr milliseconds kIdle{600'000};  // the service's limit is shorter
constexpr size_t kWindow = 8;           // pieces of an upload that are not yet answered
constexpr size_t kMaxStateFileBytes = size_t{80} << 20;
constexpr size_t kMaxCheckpointBytes = size_t{64} << 30;
constexpr const char* kCheckpointKind = "checkpoint";  // as src/train/checkpoint.cpp seals it
constexpr const char* kStateKind = "job-state";
constexpr const char* kSeenFile = "seen-collateral.json";
constexpr const char* kRefusedFile = "refused.jsonl";

/// Whatever is written there then says why it cannot be.
void make_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
}

/// A log that cannot be written changes nothing: what is refused stays refused, and the command says so.
void log_refusal(const std::filesystem::path& folder, const char* event, const char* reason) {
  make_folder(folder);
  try {
    observe::Log log((folder / kRefusedFile).string());
    log.warning(event, {{"reason", reason}});
  } catch (const InputError&) {
  }
}

}  // namespace

Client::Client(const ClientOptions& options, const TlsIdentity& identity)
    : options_(options),
      jobs_(options.state / "jobs"),
      channel_(connect_to(options.server, kConnectPatience), identity, TlsChannel::Role::kClient, kHandshakePatience) {
  pump_ = std::thread([this] { channel_.pump(pair_.ours.get(), kIdle, stop_); });
  try {
    caller_ = std::make_unique<SessionCaller>(std::move(pair_.grpcs));
    attest();
  } catch (...) {
    caller_.reset();
    stop_ = true;
    pump_.join();
    throw;
  }
}

Client::~Client() {
  caller_.reset();
  stop_ = true;
  pump_.join();
}

attest::SeenCollateral Client::seen() const { return attest::SeenCollateral::load(options_.state / kSeenFile); }

template <typename Check>
void Client::refusing(const char* event, const Check& check) const {
  try {
    check();
  } catch (const AttestationError& error) {
    log_refusal(options_.state, event, error.what());
    throw;
  }
}

void Client::attest() {
  transcript_.reset();
  const SecretKey random = SecretKey::random();
  v1::JobRequest request;
  request.mutable_challenge()->set_version(kProtocolVersion);
  request.mutable_challenge()->set_nonce(text_of(random.bytes()));
  const v1::JobReply reply = call(request);
  const v1::Attestation& got = reply.attestation();
  if (!reply.has_attestation() || got.configuration().size() > kMaxServiceConfigBytes)
    throw ProtocolError("service: got no attestation, or one with too long a configuration");
  refusing("service_refused", [&] { check(got, random.bytes()); });
}

void Client::check(const v1::Attestation& got, attest::ByteView nonce) {
  release_key_ = fixed<32>(got.release_key(), "attestation: key-release key");
  const attest::Digest32 config_hash = sha256(bytes_of(got.configuration()));
  const attest::ReportData expected = attest::bind_report_data({.nonce = nonce,
                                                                .spki = channel_.binding().service_spki,
                                                                .release_public_key = release_key_,
                                                                .tls_exporter = channel_.binding().exporter,
                                                                .config_hash = config_hash});
  attest::Evidence evidence;
  try {
    evidence = attest::parse_evidence(bytes_of(got.evidence()), "the service's evidence");
  } catch (const InputError& error) {
    throw AttestationError(error.what());
  }
  attest::SeenCollateral remembered = seen();
  const auto before = remembered.items();
  appraisal_ = attest::appraise_with_unpinned_roots(
      evidence, options_.collateral, options_.policy,
      {.report_data = expected, .config_hash = config_hash, .now = options_.now}, &remembered,
      options_.unpinned_roots != nullptr ? *options_.unpinned_roots : attest::pinned_vendor_roots());
  attest::require_accepted(appraisal_);
  if (remembered.items() != before) {
    make_folder(options_.state);
    remembered.save(options_.state / kSeenFile);
  }
  configuration_ = got.configuration();
  transcript_ = hash_of({.nonce = nonce,
                         .binding = channel_.binding(),
                         .release_key = release_key_,
                         .config_hash = config_hash,
                         .evidence = bytes_of(got.evidence())});
}

void Client::heard(const JobId& job, uint64_t counter) {
  refusing("state_refused", [&] { jobs_.heard(job, counter); });
}

v1::JobReply Client::call(const v1::JobRequest& request) {
  caller_->send(request);
  v1::JobReply reply = caller_->receive();
  if (reply.has_failure()) throw_failure(reply.failure());
  return reply;
}

JobView Client::one_view(const v1::JobReply& reply) {
  if (!reply.has_jobs() || reply.jobs().jobs_size() != 1)
    throw ProtocolError("service: expected the status of one job");
  JobView view = view_of(reply.jobs().jobs(0));
  heard(view.job, view.counter);
  return view;
}

JobView Client::create(uint64_t archive_bytes) {
  v1::JobRequest request;
  request.mutable_create()->set_archive_bytes(archive_bytes);
  return one_view(call(request));
}

void Client::upload(const JobId& job, const std::filesystem::path& archive, uint64_t from,
                    const std::function<void(uint64_t)>& progress) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(archive, error))
    throw InputError(fmt::format("{}: not a file, expected a sealed archive", archive.string()));
  std::ifstream in(archive, std::ios::binary);
  in.seekg(static_cast<std::streamoff>(from));
  if (!in) throw InputError(fmt::format("{}: cannot be read from byte {} on", archive.string(), from));
  size_t unanswered = 0;
  std::optional<v1::Failure> failure;  // the first; what was sent after it is answered, too
  const auto take_answer = [&] {
    const v1::JobReply reply = caller_->receive();
    --unanswered;
    if (reply.has_failure() && !failure) failure = reply.failure();
  };
  std::string piece(kPieceBytes, '\0');
  while (!failure && (in.read(piece.data(), static_cast<std::streamsize>(piece.size())) || in.gcount() > 0)) {
    const auto bytes = static_cast<size_t>(in.gcount());
    v1::JobRequest request;
    request.mutable_upload()->set_job(text_of(job));
    request.mutable_upload()->set_offset(from);
    request.mutable_upload()->set_data(piece.substr(0, bytes));
    caller_->send(request);
    from += bytes;
    ++unanswered;
    progress(from);
    if (unanswered == kWindow) take_answer();
  }
  while (unanswered > 0) take_answer();
  if (failure) throw_failure(*failure);
}

JobView Client::release(const Release& release) {
  if (!transcript_) attest();
  v1::JobRequest request;
  request.mutable_release()->set_job(text_of(release.job));
  request.mutable_release()->set_sealed(text_of(seal_release(release, release_key_, *transcript_)));
  transcript_.reset();
  return one_view(call(request));
}

std::vector<JobView> Client::status(const std::optional<JobId>& job) {
  v1::JobRequest request;
  request.mutable_status();
  if (job) request.mutable_status()->set_job(text_of(*job));
  const v1::JobReply reply = call(request);
  if (job) return {one_view(reply)};
  std::vector<JobView> views;
  for (const v1::JobStatus& status : reply.jobs().jobs()) {
    views.push_back(view_of(status));
    heard(views.back().job, views.back().counter);
  }
  return views;
}

Client::Lines Client::logs(const JobId& job, uint64_t from) {
  v1::JobRequest request;
  request.mutable_logs()->set_job(text_of(job));
  request.mutable_logs()->set_from(from);
  const v1::JobReply reply = call(request);
  Lines out;
  out.first = reply.logs().first();
  out.is_over = reply.logs().is_over();
  for (const std::string& line : reply.logs().lines()) out.lines.push_back(printable(line, kMaxLineBytes));
  return out;
}

JobView Client::cancel(const JobId& job, bool remove) {
  v1::JobRequest request;
  request.mutable_cancel()->set_job(text_of(job));
  request.mutable_cancel()->set_remove(remove);
  JobView view = one_view(call(request));
  if (remove) jobs_.forget(job);
  return view;
}

std::vector<std::byte> Client::fetch_file(v1::FetchQuery query) {
  const size_t most = query.file() == v1::FetchQuery::STATE ? kMaxStateFileBytes : kMaxCheckpointBytes;
  std::vector<std::byte> bytes;
  for (;;) {
    v1::JobRequest request;
    query.set_offset(bytes.size());
    *request.mutable_fetch() = query;
    const v1::JobReply reply = call(request);
    const std::string& data = reply.chunk().data();
    const uint64_t total = reply.chunk().total();
    if (total > most || data.size() > total - std::min<uint64_t>(total, bytes.size()))
      throw ProtocolError("service: a file of another size than announced, or too large");
    const auto piece = bytes_of(data);
    bytes.insert(bytes.end(), piece.begin(), piece.end());
    if (bytes.size() == total) return bytes;
    if (data.empty()) throw ProtocolError("service: a file ends before its announced size");
  }
}

FetchedJob Client::fetch(const JobId& job, const SecretKey& data_key) {
  v1::FetchQuery query;
  query.set_job(text_of(job));
  query.set_file(v1::FetchQuery::STATE);
  FetchedJob fetched;
  std::vector<std::byte> plain =
      seal::unseal(fetch_file(query), "the job's state", job_key(data_key, job), kStateKind, kMaxStateFileBytes);
  fetched.state = parse_job_state(plain, "the job's state");
  sodium_memzero(plain.data(), plain.size());
  refusing("state_refused", [&] {
    if (fetched.state.job != job || fetched.state.owner != channel_.binding().client)
      throw AttestationError("fetch: the state that came is of another job or another client");
  });
  heard(job, fetched.state.counter);
  if (!fetched.state.checkpoint) return fetched;
  query.set_file(v1::FetchQuery::CHECKPOINT);
  query.set_number(fetched.state.checkpoint->number);
  fetched.checkpoint = seal::unseal(fetch_file(query), "the job's checkpoint", fetched.state.checkpoint->key,
                                    kCheckpointKind, kMaxCheckpointBytes);
  return fetched;
}

}  // namespace tempo::service
